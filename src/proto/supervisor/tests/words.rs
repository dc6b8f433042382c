//! The messages of a server.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

/// The answer to a startup message: the login succeeds.
pub(super) const PRELUDE: &[u8] = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x19client_encoding\0UTF8\0\
    S\0\0\0\x18server_version\x0018.7\0\
    K\0\0\0\x0c\0\0\0\x07\0\0\0\x01Z\0\0\0\x05I";
/// The version of a server that sends stray errors.
pub(super) const OLD: &[u8] = b"S\0\0\0\x18server_version\x0018.1\0";
pub(super) const READY: &[u8] = b"Z\0\0\0\x05I";
pub(super) const IN_TRANSACTION: &[u8] = b"Z\0\0\0\x05T";
pub(super) const LISTEN: &[u8] = b"C\0\0\0\x0bLISTEN\0";
pub(super) const UNLISTEN: &[u8] = b"C\0\0\0\x0dUNLISTEN\0";
pub(super) const SELECT: &[u8] = b"C\0\0\0\x0dSELECT 1\0";
pub(super) const ERROR: &[u8] = b"E\0\0\0\x17SERROR\0C42501\0Mno\0\0";
pub(super) const FATAL: &[u8] = b"E\0\0\0\x17SFATAL\0C57P01\0Mno\0\0";
/// Process id 1, channel `a`, payload `b`.
pub(super) const A1: &[u8] = b"A\0\0\0\x0c\0\0\0\x01a\0b\0";

/// Returns a message with this body.
pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// Returns a notification on channel `a`.
pub(super) fn notification(payload: &str) -> Vec<u8> {
    notification_on("a", payload)
}

pub(super) fn notification_on(channel: &str, payload: &str) -> Vec<u8> {
    message(b'A', &[b"\0\0\0\x01", channel.as_bytes(), b"\0", payload.as_bytes(), b"\0"].concat())
}

/// Returns an error or a notice.
pub(super) fn diagnostic(tag: u8, severity: &str, code: &str) -> Vec<u8> {
    message(tag, format!("S{severity}\0V{severity}\0C{code}\0Mno\0\0").as_bytes())
}

/// Returns a row of text, between its description and the end of its statement.
pub(super) fn row(values: &[Option<&str>]) -> Vec<u8> {
    let count = u16::try_from(values.len()).unwrap().to_be_bytes();
    let mut columns = count.to_vec();
    let mut row = count.to_vec();
    for value in values {
        columns.extend(b"c\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
        match value {
            Some(value) => {
                row.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                row.extend(value.as_bytes());
            }
            None => row.extend([0xff; 4]),
        }
    }
    [message(b'T', &columns), message(b'D', &row), SELECT.to_vec()].concat()
}

/// Returns the answer to a heartbeat of a session that listens to these channels.
pub(super) fn heartbeat_answer(channels: &BTreeSet<String>) -> Vec<u8> {
    let all: Vec<&str> = channels.iter().map(String::as_str).collect();
    let digest: String =
        Sha256::digest(all.join(",")).iter().map(|byte| format!("{byte:02x}")).collect();
    let digest = (!all.is_empty()).then_some(digest.as_str());
    [row(&[Some(&all.len().to_string()), digest]), READY.to_vec()].concat()
}

/// Returns the answer to the query that sends the fence notification.
pub(super) fn notified() -> Vec<u8> {
    [&message(b'1', b"")[..], &message(b'2', b""), &row(&[Some("")]), READY].concat()
}
