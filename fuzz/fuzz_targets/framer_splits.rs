//! Bytes that come in pieces give the same frames, and the hot path takes those that the decoder takes.
#![no_main]

use pgbell::wire::{BackendMessage, Framer, Stop, frames, scan};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for framer in [Framer::startup(), Framer::established(), Framer::frontend()] {
        let whole = framer.next(data);
        for length in 0..data.len() {
            match (framer.next(&data[..length]), &whole) {
                (Ok(None), _) | (Err(_), Err(_)) => {}
                (Ok(part), Ok(whole)) => assert!(part == *whole, "{length}"),
                (part, whole) => panic!("{length}: {part:?}, {whole:?}"),
            }
        }
    }
    let (run, stop) = scan(data);
    let mut rest = data;
    for raw in frames(&data[..run.bytes]) {
        let frame = Framer::established().next(rest).unwrap().unwrap();
        assert_eq!(BackendMessage::decode(frame), Ok(BackendMessage::NotificationResponse(raw)));
        rest = &rest[frame.wire_len()..];
    }
    assert_eq!(
        (rest.len(), frames(&data[..run.bytes]).count()),
        (data.len() - run.bytes, run.count)
    );
    let decoded = Framer::established().next(rest).map(|frame| frame.map(BackendMessage::decode));
    assert!(match stop {
        Stop::NeedMore => decoded == Ok(None),
        Stop::Invalid(error) => matches!(decoded, Err(e) | Ok(Some(Err(e))) if e == error),
        _ => rest[0] != b'A',
    });
});
