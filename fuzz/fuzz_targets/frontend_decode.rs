//! A decoded message of a client can be encoded again, to the same bytes.
#![no_main]

use bytes::BytesMut;
use pgbell::proto::wire::{FirstPacket, Framer, FrontendMessage, StartupPacket};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut out = BytesMut::new();
    if let Ok(Some(first)) = FirstPacket::next(data)
        && let Ok(packet) = StartupPacket::decode(first)
    {
        packet.encode(&mut out).unwrap();
        assert_eq!(out, &data[..first.wire_len()], "{packet:?}");
    }
    let mut rest = data;
    while let Ok(Some(frame)) = Framer::frontend().next(rest) {
        let (bytes, behind) = rest.split_at(frame.wire_len());
        if let Ok(message) = FrontendMessage::decode(frame) {
            out.clear();
            message.encode(&mut out).unwrap();
            let again = Framer::frontend().next(&out).unwrap().unwrap();
            assert_eq!(FrontendMessage::decode(again), Ok(message));
            assert_eq!(out, bytes, "{message:?}");
        }
        rest = behind;
    }
});
