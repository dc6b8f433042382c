//! F1–F5, F12, F14, T17: the limits of messages in a stream.

use bytes::BytesMut;

use super::*;

/// F1, F2, F4: the length word is checked before the body has arrived.
#[test]
fn impossible_lengths_are_refused_after_five_bytes() {
    let established = Framer::established();
    for (bytes, expected) in [
        ("41 00000003", "length word 3 is below 11 in NotificationResponse"),
        ("41 00000000", "length word 0 is below 11 in NotificationResponse"),
        ("41 80000000", "length word 2147483648 is above 262144 in NotificationResponse"),
        ("41 ffffffff", "length word 4294967295 is above 262144 in NotificationResponse"),
        ("41 7fffffff", "length word 2147483647 is above 262144 in NotificationResponse"),
        ("4e 7fffffff", "length word 2147483647 is above 1073741826 in NoticeResponse"),
        ("44 7fffffff", "length word 2147483647 is above 1073741826 in DataRow"),
        ("5a 00000006", "length word 6 is above 5 in ReadyForQuery"),
    ] {
        assert_eq!(fault(established, bytes), expected);
        for prefix in 0..5 {
            assert_eq!(established.next(&hex(bytes)[..prefix]), Ok(None), "{bytes} {prefix}");
        }
    }
}

/// The framer does not return such a message, but the session can keep or skip it.
#[test]
fn a_message_that_a_server_may_send_is_long_and_not_malformed() {
    let established = Framer::established();
    for (bytes, name) in [
        ("53 00007531", "ParameterStatus"),
        ("4e 00100001", "NoticeResponse"),
        ("45 00100001", "ErrorResponse"),
        ("54 00100001", "RowDescription"),
        ("44 00100001", "DataRow"),
        ("64 00100001", "CopyData"),
        ("44 40000002", "DataRow"),
    ] {
        let long = established.long(&hex(bytes)).unwrap();
        assert_eq!((long.name, long.tag), (name, hex(bytes)[0]));
        assert_eq!(long.wire_len(), long.body_bytes() + 5);
        assert_eq!(long.whole(&hex(bytes)), None);
        assert_eq!(long.beginning(&hex(bytes)), None);
        assert!(established.next(&hex(bytes)).is_err());
        for prefix in 0..5 {
            assert_eq!(established.long(&hex(bytes)[..prefix]), None, "{bytes} {prefix}");
        }
        for other in [Framer::startup(), Framer::frontend()] {
            assert_eq!(other.long(&hex(bytes)), None, "{bytes}");
        }
    }
    // Types for which a longer message is not valid.
    for bytes in ["44 00100000", "44 40000003", "41 00040001", "43 00007531", "56 00100001"] {
        assert_eq!(established.long(&hex(bytes)), None, "{bytes}");
    }
    let status = [&hex("53 00007531")[..], &[b'x'; 29_996]].concat();
    let long = established.long(&status).unwrap();
    assert_eq!(long.beginning(&status).unwrap().len(), 29_996);
    assert_eq!(long.whole(&status), None);
    let status = [&status[..], b"x"].concat();
    assert_eq!(long.whole(&status).unwrap().body.len(), 29_997);
}

/// F3: a length of one byte above the limit is refused, the limit itself is accepted.
#[test]
fn the_notification_limit_is_inclusive() {
    let largest = notification(b"a", &vec![b'x'; 256 * 1024 - 11]);
    assert_eq!(largest[1..5], [0, 4, 0, 0]);
    let message = decode(Framer::established(), &largest).unwrap();
    let BackendMessage::NotificationResponse(found) = message else { panic!("{message:?}") };
    assert_eq!(found.payload.len(), 256 * 1024 - 11);
    assert_eq!(scan(&largest).0.count, 1);
    let expected = "length word 262145 is above 262144 in NotificationResponse";
    assert_eq!(fault(Framer::established(), "41 00040001"), expected);
}

/// F5: a wrong length of an unknown peer causes no wait.
#[test]
fn impossible_lengths_before_authentication_are_refused_after_five_bytes() {
    for (bytes, expected) in [
        ("52 7fffffff", "length word 2147483647 is above 2000 in Authentication"),
        ("45 7fffffff", "length word 2147483647 is above 30000 in ErrorResponse"),
        ("76 000007d1", "length word 2001 is above 2000 in NegotiateProtocolVersion"),
        ("4e 00007531", "length word 30001 is above 30000 in NoticeResponse"),
        ("52 00000007", "length word 7 is below 8 in Authentication"),
    ] {
        assert_eq!(fault(Framer::startup(), bytes), expected);
    }
}

/// T17, F5: an error without a length word, as every postmaster that cannot fork sends it.
#[test]
fn an_error_in_the_form_of_protocol_2_is_decoded() {
    let text = b"could not fork new process for connection: Resource temporarily unavailable";
    let stream = [b"E", &text[..], b"\n\0"].concat();
    let startup = Framer::startup();
    for end in 0..stream.len() {
        assert_eq!(startup.next(&stream[..end]), Ok(None), "{end}");
    }
    let frame = startup.next(&stream).unwrap().unwrap();
    assert!(frame.is_legacy());
    assert_eq!(frame.wire_len(), stream.len());
    let message = BackendMessage::decode(frame).unwrap();
    assert_eq!(message, BackendMessage::LegacyError { text });
    assert_eq!(
        DbError::from_legacy_text(text).to_string(),
        format!("FATAL: {}", std::str::from_utf8(text).unwrap())
    );
    let mut out = BytesMut::new();
    message.encode(&mut out).unwrap();
    assert_eq!(out, stream);

    // Text without a NUL is an error when it is longer than the limit.
    let endless = [b'E'; 30_001];
    assert_eq!(startup.next(&endless[..30_000]), Ok(None));
    assert!(startup.next(&endless).is_err());
    // After authentication this form is not valid.
    assert!(Framer::established().next(&stream).is_err());
}

/// F12: each of the 256 type bytes with an empty body, in each phase.
#[test]
fn every_type_byte_with_an_empty_body_has_a_defined_result() {
    let empty_bodied = b"Icns123";
    for tag in 0..=255_u8 {
        let bytes = [tag, 0, 0, 0, 4];
        let result = decode(Framer::established(), &bytes).map(|message| message.tag());
        if empty_bodied.contains(&tag) {
            assert_eq!(result, Ok(tag));
        } else if tag == b'd' {
            assert_eq!(decode(Framer::established(), &bytes), Ok(BackendMessage::CopyData(b"")));
        } else if tags::backend(tag).is_some() {
            let error = result.unwrap_err();
            assert!(matches!(error.fault(), DecodeFault::LengthBelowFloor { .. }), "{tag}");
        } else {
            // An error before the length word has arrived.
            let error = Framer::established().next(&[tag]).unwrap_err();
            assert_eq!(error.fault(), &DecodeFault::UnknownTag { tag });
        }

        let error = Framer::startup().next(&bytes).unwrap_err();
        match error.fault() {
            DecodeFault::LengthBelowFloor { .. } => assert!(tags::backend(tag).is_some()),
            DecodeFault::BeforeAuthentication => {
                assert!(empty_bodied.contains(&tag) || tag == b'd', "{tag}");
            }
            DecodeFault::NotPostgres { .. } => assert!(!b"REvN".contains(&tag), "{tag}"),
            other => panic!("{tag}: {other:?}"),
        }

        match Framer::frontend().next(&bytes) {
            Ok(Some(frame)) => assert!(b"FHSXcdp".contains(&frame.tag), "{tag}"),
            Ok(None) => panic!("{tag}: waits for more"),
            Err(_) => assert!(!b"FHSXcdp".contains(&tag), "{tag}"),
        }
    }
}

/// F14: the error contains the first bytes of the peer, escaped.
#[test]
fn peers_that_are_not_postgresql_are_recognized() {
    let mysql = hex("4a0000000a382e302e333600");
    let cases: [(&[u8], &str); 5] = [
        (b"HTTP/1.1 400 Bad Request\r\n", "\"HTTP/1.1 400 Bad Request\""),
        (b"SSH-2.0-x\r\n", "\"SSH-2.0-x\\r\\n\""),
        (&[0x15, 3, 1, 0, 2, 2, 0x28], "\"\\x15\\x03\\x01\\x00\\x02\\x02(\""),
        (&mysql, "\"J\\x00\\x00\\x00\\n8.0.36\\x00\""),
        (b"220 mail ready\r\n", "\"220 mail ready\\r\\n\""),
    ];
    for (bytes, shown) in cases {
        let error = Framer::startup().next(bytes).unwrap_err();
        let expected = format!("not a PostgreSQL server: it began with {shown}");
        assert_eq!(error.to_string(), expected);
        // More bytes never change an error.
        for end in 0..bytes.len() {
            match Framer::startup().next(&bytes[..end]) {
                Ok(found) => assert_eq!((found, end < 5), (None, true)),
                Err(error) => assert!(error.to_string().starts_with("not a PostgreSQL server")),
            }
        }
    }
}

#[test]
fn a_message_before_authentication_is_not_reported_as_another_protocol() {
    for (bytes, name) in [("5a 00000005", "ReadyForQuery"), ("41 0000000c", "NotificationResponse")]
    {
        let expected =
            format!("expected an Authentication message and found {name} before authentication");
        assert_eq!(fault(Framer::startup(), bytes), expected);
    }
}
