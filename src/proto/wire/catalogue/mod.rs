//! The cases of the fault catalogue that concern the codec, as bytes. The ids are those of the catalogue.

use super::*;

mod framing;
mod messages;
mod sending;

/// Returns the bytes of hexadecimal digits. White space is ignored.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|character| !character.is_whitespace())
        .map(|digit| u8::try_from(digit.to_digit(16).unwrap()).unwrap())
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Decodes `input`, which must be exactly one frame.
fn decode(framer: Framer, input: &[u8]) -> Result<BackendMessage<'_>, DecodeError> {
    let frame = framer.next(input)?.expect("a whole frame");
    assert_eq!(frame.wire_len(), input.len());
    BackendMessage::decode(frame)
}

fn fault(framer: Framer, bytes: &str) -> String {
    let bytes = hex(bytes);
    match framer.next(&bytes) {
        Err(error) => error.to_string(),
        Ok(Some(frame)) => BackendMessage::decode(frame).unwrap_err().to_string(),
        Ok(None) => panic!("waits for more after {bytes:02x?}"),
    }
}

fn notification(channel: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(channel.len() + payload.len() + 10).unwrap();
    [b"A", &length.to_be_bytes()[..], &[0, 0, 0, 1], channel, b"\0", payload, b"\0"].concat()
}
