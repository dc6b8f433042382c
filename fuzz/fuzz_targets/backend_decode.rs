//! A decoded message of a server can be encoded again, to the same bytes.
#![no_main]

use bytes::BytesMut;
use pgbell::proto::wire::{BackendMessage, Framer};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for framer in [Framer::startup(), Framer::established()] {
        let mut rest = data;
        while let Ok(Some(frame)) = framer.next(rest) {
            let (bytes, behind) = rest.split_at(frame.wire_len());
            if let Ok(message) = BackendMessage::decode(frame) {
                let mut out = BytesMut::new();
                message.encode(&mut out).unwrap();
                let again = framer.next(&out).unwrap().unwrap();
                assert_eq!(BackendMessage::decode(again), Ok(message), "{message:?}");
                assert!(frame.is_legacy() || out == bytes);
            }
            rest = behind;
        }
    }
});
