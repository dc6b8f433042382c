//! The scanner accepts the notifications that the decoder accepts, and stops where the decoder stops.
#![no_main]

use pgbell::proto::wire::{BackendMessage, Framer, Stop, frames, scan};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (run, stop) = scan(data);
    let (run_bytes, rest) = data.split_at(run.bytes);
    let decode =
        |rest| Framer::established().next(rest).map(|frame| frame.map(BackendMessage::decode));
    let (mut at, mut count) = (0, 0);
    for raw in frames(run_bytes) {
        assert_eq!(decode(&data[at..]), Ok(Some(Ok(BackendMessage::NotificationResponse(raw)))));
        at += 11 + raw.channel.len() + raw.payload.len();
        count += 1;
    }
    assert_eq!((at, count), (run.bytes, run.count));
    assert!(match stop {
        Stop::NeedMore => decode(rest) == Ok(None),
        Stop::Invalid(error) => matches!(decode(rest), Err(e) | Ok(Some(Err(e))) if e == error),
        _ => rest[0] != b'A',
    });
});
