//! Bytes that arrive in pieces give the same frames.
#![no_main]

use pgbell::proto::wire::Framer;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for framer in [Framer::startup(), Framer::established(), Framer::frontend()] {
        let whole = framer.next(data);
        let long = framer.long(data);
        assert!(long.is_none() || whole.is_err());
        (5..data.len()).for_each(|length| assert_eq!(framer.long(&data[..length]), long));
        for length in 0..data.len() {
            match (framer.next(&data[..length]), &whole) {
                (Ok(None), _) | (Err(_), Err(_)) => {}
                (Ok(part), Ok(whole)) => assert!(part == *whole, "{length}"),
                (part, whole) => panic!("{length}: {part:?}, {whole:?}"),
            }
        }
    }
});
