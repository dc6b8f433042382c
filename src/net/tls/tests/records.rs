//! A hostile server after the handshake.

use bytes::BytesMut;
use rustls::{AlertDescription, ContentType};
use tokio::io::{AsyncReadExt, DuplexStream};

use super::super::TlsStream;
use super::super::cause;
use super::super::stream::PLAINTEXT_BYTES_MAX;
use super::server::*;
use crate::error::ErrorKind;

/// A key update that requests one of the client.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 1];

/// The largest number of records without data in a row that rustls accepts.
const IDLE_RECORDS_MAX: usize = 32;

async fn hostile_pair(tls13: bool) -> (TlsStream<DuplexStream>, HostileServer<DuplexStream>) {
    let (stream, server) =
        pair(&Setup::good().version(tls13), "sslmode=require", 1024 * 1024).await;
    (stream, server.into_hostile())
}

/// Reads until an error, which must be returned again by the next read. Data before it is discarded.
async fn error_of(stream: &mut TlsStream<DuplexStream>) -> crate::Error {
    let mut out = BytesMut::with_capacity(64 * 1024);
    let error = loop {
        match read(stream, &mut out).await {
            Ok(0) => panic!("a clean end"),
            Ok(_) => out.clear(),
            Err(error) => break error,
        }
    };
    let again = read(stream, &mut out).await.unwrap_err();
    assert_eq!(error.to_string(), again.to_string());
    cause(&error).unwrap_or_else(|| panic!("{error:?}")).clone()
}

async fn refused(tls13: bool, records: &[(ContentType, &[u8])]) -> String {
    let (mut stream, mut hostile) = hostile_pair(tls13).await;
    hostile.send(ContentType::ApplicationData, b"before").await;
    for (content, bytes) in records {
        hostile.send(*content, bytes).await;
    }
    assert_eq!(read_data(&mut stream, 6).await, b"before");
    let error = error_of(&mut stream).await;
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    // The server receives an alert, in a record.
    let mut alert = [0; 5];
    hostile.io.read_exact(&mut alert).await.unwrap();
    assert!(matches!(alert[..3], [21 | 23, 3, 3]), "{alert:?}");
    format!("{error:#}")
}

#[tokio::test]
async fn a_record_with_a_changed_byte_is_refused() {
    for tls13 in [true, false] {
        let (_, mut hostile) = hostile_pair(tls13).await;
        let length = hostile.record(ContentType::ApplicationData, b"payload").len();
        for at in 0..length {
            // TLS 1.3 ignores the minor version (RFC 8446 §5.1), and rustls the outer type: the type is encrypted.
            if tls13 && (at == 0 || at == 2) {
                continue;
            }
            let (mut stream, mut hostile) = hostile_pair(tls13).await;
            let mut record = hostile.record(ContentType::ApplicationData, b"payload");
            record[at] ^= 1;
            hostile.raw(&record).await;
            drop(hostile);
            let mut out = BytesMut::with_capacity(100);
            let read = read(&mut stream, &mut out).await;
            assert!(read.is_err() && out.is_empty(), "byte {at}: {read:?}");
        }
    }
}

#[tokio::test]
async fn reordered_or_repeated_records_are_refused() {
    for order in [[1, 0], [0, 0]] {
        let (mut stream, mut hostile) = hostile_pair(true).await;
        let records =
            [b"first", b"other"].map(|data| hostile.record(ContentType::ApplicationData, data));
        for at in order {
            hostile.raw(&records[at]).await;
        }
        let error = error_of(&mut stream).await.to_string();
        assert!(error.contains("does not decrypt"), "{error}");
    }
}

#[tokio::test]
async fn unencrypted_bytes_after_the_handshake_are_refused() {
    for (tls13, bytes, words) in [
        (true, &b"E\0\0\0\x10SFATAL\0\0"[..], "not TLS"),
        (true, b"\x15\x03\x03\0\x02\x01\0", "does not decrypt"),
        (true, b"\x14\x03\x03\0\x01\x01", "violated the protocol"),
        (true, b"\x16\x03\x03\0\x04\x18\0\0\0", "does not decrypt"),
        (false, b"\x14\x03\x03\0\x01\x01", "violated the protocol"),
        (false, b"\x15\x03\x03\0\x02\x01\0", "does not decrypt"),
        (true, b"\x17\x03\x03\x48\x01", "longer than any"),
        (true, b"\x17\x02\x00\x00\x01", "not TLS"),
        (true, b"\x17\x03\x03\x00\x01\x00", "does not decrypt"),
        (true, b"\x17\x03\x03\x00\x00", "does not decrypt"),
    ] {
        let (mut stream, mut hostile) = hostile_pair(tls13).await;
        hostile.raw(bytes).await;
        let error = error_of(&mut stream).await.to_string();
        assert!(error.contains(words), "{bytes:x?}: {error}");
        assert!(!error.contains("FATAL"));
    }
}

#[tokio::test]
async fn the_error_for_an_alert_has_its_name() {
    for (tls13, alert, name) in [
        (true, AlertDescription::InternalError, "internal_error"),
        (false, AlertDescription::InternalError, "internal_error"),
        (true, AlertDescription::Unknown(77), "number 77"),
    ] {
        let (mut stream, mut hostile) = hostile_pair(tls13).await;
        hostile.send(ContentType::Alert, &[2, alert.into()]).await;
        let error = error_of(&mut stream).await;
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert!(error.to_string().contains(name), "{error}");
    }
    // In TLS 1.3 a server sends such an alert if it refuses the client's certificate, after the handshake.
    let (mut stream, mut hostile) = hostile_pair(true).await;
    hostile.send(ContentType::Alert, &[2, AlertDescription::CertificateRequired.into()]).await;
    let error = error_of(&mut stream).await;
    assert_eq!(error.kind(), ErrorKind::Tls);
    assert!(error.hint().unwrap().contains("sslcert"), "{error}");
}

#[tokio::test]
async fn warnings_are_ignored_only_in_tls_1_2() {
    let warning = [1, AlertDescription::UnrecognisedName.into()];
    let (mut stream, mut hostile) = hostile_pair(false).await;
    hostile.send(ContentType::Alert, &warning).await;
    hostile.send(ContentType::ApplicationData, b"x").await;
    assert_eq!(read_data(&mut stream, 1).await, b"x");
    assert!(refused_by_alert(&warning).await.contains("unrecognised_name"));
    // This alert announces close_notify, in both versions.
    let (mut stream, mut hostile) = hostile_pair(true).await;
    hostile.send(ContentType::Alert, &[1, AlertDescription::UserCanceled.into()]).await;
    hostile.send(ContentType::Alert, &[1, AlertDescription::CloseNotify.into()]).await;
    let mut out = BytesMut::with_capacity(10);
    assert_eq!(read(&mut stream, &mut out).await.unwrap(), 0);
}

async fn refused_by_alert(alert: &[u8]) -> String {
    let (mut stream, mut hostile) = hostile_pair(true).await;
    hostile.send(ContentType::Alert, alert).await;
    error_of(&mut stream).await.to_string()
}

#[tokio::test]
async fn malformed_messages_are_refused() {
    use ContentType::{Alert, ApplicationData, Handshake};
    let long = [&[4, 1, 0, 1][..], &[0; 1000]].concat();
    for (tls13, records, words) in [
        (true, &[(Alert, &[1][..])][..], "corrupt message"),
        (true, &[(Alert, &[])], "corrupt message"),
        (true, &[(Alert, &[1, 0, 0])], "corrupt message"),
        // A request for a certificate after the handshake, which the client did not offer.
        (true, &[(Handshake, &[13, 0, 0, 3, 0, 0, 0])], "got CertificateRequest"),
        (true, &[(Handshake, &[2, 0, 0, 0])], "MissingData"),
        (true, &[(Handshake, &[24, 0, 0, 1, 2])], "InvalidKeyUpdate"),
        (true, &[(Handshake, &[24, 0, 0, 2, 1, 1])], "TrailingData"),
        (true, &[(Handshake, &[24, 0, 0, 0])], "MissingData"),
        // A key update with a message after it in its record, or in parts with another record between them.
        (true, &[(Handshake, &[24, 0, 0, 1, 0, 4])], "KeyEpochWithPendingFragment"),
        (true, &[(Handshake, &[24, 0, 0, 1]), (ApplicationData, b"x")], "MessageInterleaved"),
        (true, &[(Handshake, &[24]), (Alert, &[1, 0])], "MessageInterleaved"),
        (true, &[(Handshake, &long)], "HandshakePayloadTooLarge"),
        (false, &[(Handshake, &KEY_UPDATE)], "got Handshake when expecting ApplicationData"),
        (false, &[(Handshake, &[4, 0, 0, 0])], "corrupt message"),
        (true, &[(ContentType::Heartbeat, &[1, 0])], "not TLS"),
        (true, &[(ContentType::Unknown(99), b"x")], "not TLS"),
        (true, &[(ContentType::ChangeCipherSpec, &[1])], "IllegalMiddleboxChangeCipherSpec"),
    ] {
        let error = refused(tls13, records).await;
        assert!(error.contains(words), "{records:?}: {error}");
    }
}

#[tokio::test]
async fn messages_in_parts_are_accepted() {
    let (mut stream, mut hostile) = hostile_pair(true).await;
    // Lifetime, age, nonce, ticket, extensions.
    let ticket =
        [&[4, 0, 0, 100, 0, 0, 1, 0, 0, 0, 0, 0, 1, 9, 0, 86][..], &[7; 86], &[0; 2]].concat();
    for part in ticket.chunks(4) {
        hostile.send(ContentType::Handshake, part).await;
    }
    hostile.send(ContentType::ApplicationData, b"x").await;
    assert_eq!(read_data(&mut stream, 1).await, b"x");
    // Several in one record.
    hostile.send(ContentType::Handshake, &ticket.repeat(3)).await;
    hostile.send(ContentType::ApplicationData, b"y").await;
    assert_eq!(read_data(&mut stream, 1).await, b"y");
}

#[tokio::test]
async fn requests_for_renegotiation_are_ignored() {
    let (mut stream, mut hostile) = hostile_pair(false).await;
    hostile.send(ContentType::Handshake, &[0, 0, 0, 0]).await;
    hostile.send(ContentType::ApplicationData, b"x").await;
    assert_eq!(read_data(&mut stream, 1).await, b"x");
}

/// V29: records that cost time and have no effect.
#[tokio::test]
async fn too_many_records_without_data_end_the_connection() {
    use ContentType::{Alert, ApplicationData, Handshake};
    for (tls13, content, bytes, allowed, is_per_data) in [
        (true, ApplicationData, &[][..], IDLE_RECORDS_MAX, true),
        (false, ApplicationData, &[], IDLE_RECORDS_MAX, true),
        (true, Alert, &[1, 90], 4, false),
        (false, Alert, &[1, 90], 4, false),
        (false, Handshake, &[0, 0, 0, 0], 1, false),
    ] {
        let records = vec![(content, bytes); allowed];
        let (mut stream, mut hostile) = hostile_pair(tls13).await;
        // A limit is one between two records of data, or one of the whole connection.
        for _ in 0..if is_per_data { 3 } else { 1 } {
            for (content, bytes) in &records {
                hostile.send(*content, bytes).await;
            }
            hostile.send(ApplicationData, b"data").await;
            assert_eq!(read_data(&mut stream, 4).await, b"data");
        }
        let error = refused(tls13, &[&records[..], &[(content, bytes)]].concat()).await;
        assert!(error.contains("TooMany"), "{content:?}: {error}");
    }
}

/// Each request alone is answered with a record.
#[tokio::test]
async fn many_requests_for_a_key_update_get_few_answers() {
    let (mut stream, mut server) = pair(&Setup::good(), "sslmode=require", 64 * 1024).await;
    for round in 0..100u8 {
        for _ in 0..10 {
            server.connection.refresh_traffic_keys().unwrap();
        }
        server.send(&[round]).await;
    }
    // All requests are read before the first answer can be sent.
    assert_eq!(read_data(&mut stream, 100).await.len(), 100);
    write_all(&mut stream, b"done").await.unwrap();
    assert_eq!(server.data(4).await, b"done");
    assert!(server.failed.is_none());
}

#[tokio::test]
async fn the_largest_record_is_delivered_in_parts_of_the_size_of_the_callers_buffer() {
    let (mut stream, mut hostile) = hostile_pair(true).await;
    let data = pattern(PLAINTEXT_BYTES_MAX);
    hostile.send(ContentType::ApplicationData, &data).await;
    let mut all = Vec::new();
    while all.len() < data.len() {
        let mut out = BytesMut::with_capacity(1_000);
        out.extend_from_slice(b"there before");
        let count = read(&mut stream, &mut out).await.unwrap();
        assert_eq!((out.len(), out.capacity()), (12 + count, 1_000));
        all.extend_from_slice(&out[12..]);
    }
    assert!(all == data);
    // A buffer without spare capacity grows.
    hostile.send(ContentType::ApplicationData, b"x").await;
    let mut out = BytesMut::new();
    assert_eq!(read(&mut stream, &mut out).await.unwrap(), 1);
}

#[tokio::test]
async fn received_data_is_delivered_at_once_and_before_an_error() {
    let (mut stream, mut hostile) = hostile_pair(true).await;
    for _ in 0..10 {
        hostile.send(ContentType::ApplicationData, &[7; 100]).await;
    }
    hostile.raw(b"garbage").await;
    let mut out = BytesMut::with_capacity(10_000);
    assert_eq!(read(&mut stream, &mut out).await.unwrap(), 1_000);
    assert!(error_of(&mut stream).await.to_string().contains("not TLS"));
}
