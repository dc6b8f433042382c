//! F7–F11, Q5, Q6, N1–N7, A11–A15, T14, T19, E4–E12, V24: the contents of the server's messages.

use bytes::BytesMut;

use super::*;

/// F7: channel of 63 bytes, payload of 7,999, UTF-8 to UTF-8.
#[test]
fn the_largest_notification_of_a_default_server_is_delivered() {
    let (channel, payload) = ([b'c'; 63], [b'p'; 7_999]);
    let stream = notification(&channel, &payload);
    assert_eq!(stream[1..5], hex("00001f88"));
    let expected = RawNotification { process_id: 1, channel: &channel, payload: &payload };
    let message = decode(Framer::established(), &stream);
    assert_eq!(message, Ok(BackendMessage::NotificationResponse(expected)));
    assert_eq!(frames(&stream).collect::<Vec<_>>(), [expected]);
}

/// F8, F9, F11: the decoder and the scanner return the same error.
#[test]
fn malformed_notifications_are_refused() {
    for (bytes, expected) in [
        ("41 0000000b 00000001 6100 62", "payload is not ended by a NUL in NotificationResponse"),
        ("41 0000000b 00000001 616263", "channel is not ended by a NUL in NotificationResponse"),
        ("41 0000000b 00000001 616200", "payload is not ended by a NUL in NotificationResponse"),
        ("41 00000008 00000001", "length word 8 is below 11 in NotificationResponse"),
        ("41 00000004", "length word 4 is below 11 in NotificationResponse"),
        ("41 00000006 0000", "length word 6 is below 11 in NotificationResponse"),
        (
            "41 0000000b 00000001 006200",
            "channel length is 0 where 1 or more is expected in NotificationResponse",
        ),
    ] {
        assert_eq!(fault(Framer::established(), bytes), expected);
        let (run, stop) = scan(&hex(bytes));
        assert_eq!(run, Run::default());
        let Stop::Invalid(error) = stop else { panic!("{stop:?}") };
        assert_eq!(error.to_string(), expected);
        assert_eq!(frames(&hex(bytes)).count(), 0);
    }
}

/// Q5, Q6 (V20): a row whose counts or lengths are greater than its content.
#[test]
fn rows_are_checked_to_their_last_byte() {
    let description = hex("54 0000002e 0002
         6300 00000000 0000 00000019 ffff ffffffff 0000
         6300 00000000 0000 00000019 ffff ffffffff 0000");
    let message = decode(Framer::established(), &description).unwrap();
    let column = ColumnDescription::text(b"c");
    assert_eq!(message, BackendMessage::RowDescription { columns: (&[column, column]).into() });

    let empty = hex("44 00000006 0000");
    let BackendMessage::DataRow { values } = decode(Framer::established(), &empty).unwrap() else {
        panic!("not a DataRow")
    };
    assert_eq!((values.len(), values.iter().next()), (0, None));

    for (bytes, expected) in [
        ("44 0000000a 0001 fffffffe", "value length is -2 where -1 or more is expected in DataRow"),
        ("44 0000000a 0001 00000001", "value needs 1 bytes and 0 are left of the body in DataRow"),
        (
            "44 0000000a 0001 7fffffff",
            "value needs 2147483647 bytes and 0 are left of the body in DataRow",
        ),
        ("44 00000006 ffff", "value count is -1 where 0 to 32767 is expected in DataRow"),
        ("44 00000006 7fff", "value length needs 4 bytes and 0 are left of the body in DataRow"),
        ("44 00000007 0000 00", "expected the end and found 1 more bytes in DataRow"),
        (
            "54 00000006 8000",
            "column count is -32768 where 0 to 32767 is expected in RowDescription",
        ),
        (
            "54 00000008 0001 6300",
            "table OID needs 4 bytes and 0 are left of the body in RowDescription",
        ),
    ] {
        assert_eq!(fault(Framer::established(), bytes), expected);
    }
}

/// N1, N2, N7: payloads are not changed, and a process id may be any number of 32 bits.
#[test]
fn notifications_are_delivered_byte_for_byte() {
    let largest = vec![b'x'; 7_999];
    for payload in [&b""[..], b"x", b"\n\x01", "\u{1f514}".as_bytes(), &largest] {
        let stream = notification(b"a", payload);
        assert_eq!(frames(&stream).next().unwrap().payload, payload);
        let message = decode(Framer::established(), &stream).unwrap();
        let BackendMessage::NotificationResponse(found) = message else { panic!("{message:?}") };
        assert_eq!(found.payload, payload);
    }
    for (process_id, bytes) in [(0, "00000000"), (i32::MIN, "80000000"), (-1, "ffffffff")] {
        let stream = hex(&format!("41 0000000c {bytes} 6100 6200"));
        assert_eq!(frames(&stream).next().unwrap().process_id, process_id);
    }
}

/// No server sends such a payload, but the rest of the payload must not be hidden.
#[test]
fn a_nul_inside_a_payload_does_not_end_it() {
    let stream = notification(b"a", b"x\0y");
    assert_eq!(frames(&stream).next().unwrap().payload, b"x\0y");
    let message = decode(Framer::established(), &stream).unwrap();
    let mut out = BytesMut::new();
    message.encode(&mut out).unwrap();
    assert_eq!(out, stream);
}

/// A11, A14: a request of the server is checked before the client answers.
#[test]
fn malformed_authentication_requests_are_refused() {
    for (bytes, expected) in [
        (
            "52 00000015 0000000a 534352414d2d5348412d323536",
            "mechanism name is not ended by a NUL in Authentication",
        ),
        (
            "52 00000016 0000000a 534352414d2d5348412d323536 00",
            "mechanism name is not ended by a NUL in Authentication",
        ),
        (
            "52 00000009 0000000a 00",
            "mechanism count is 0 where 1 or more is expected in Authentication",
        ),
        (
            "52 00000018 0000000a 534352414d2d5348412d323536 0000 00",
            "expected the end and found 1 more bytes in Authentication",
        ),
        (
            "52 0000000a 00000005 0102",
            "salt needs 4 bytes and 2 are left of the body in Authentication",
        ),
        (
            "52 0000000d 00000005 0102030405",
            "expected the end and found 1 more bytes in Authentication",
        ),
        ("52 00000009 00000000 00", "expected the end and found 1 more bytes in Authentication"),
        ("52 00000009 00000003 00", "expected the end and found 1 more bytes in Authentication"),
    ] {
        assert_eq!(fault(Framer::startup(), bytes), expected);
    }
}

/// A11: the mechanisms are returned in the server's order.
#[test]
fn mechanisms_are_offered_in_order() {
    let list = hex("52 0000002a 0000000a
         534352414d2d5348412d3235362d504c5553 00 534352414d2d5348412d323536 0000");
    let message = decode(Framer::startup(), &list).unwrap();
    let BackendMessage::Authentication(request) = message else { panic!("{message:?}") };
    let names: Vec<_> = request.mechanisms().collect();
    assert_eq!(names, [&b"SCRAM-SHA-256-PLUS"[..], b"SCRAM-SHA-256"]);
    assert_eq!(Authentication::Ok.mechanisms().count(), 0);
}

/// A15: requests that the client does not support, and codes that are not assigned.
#[test]
fn other_authentication_codes_are_values() {
    for code in [2, 6, 7, 8, 9, 99, -1_i32] {
        let stream = [b"R\0\0\0\x09", &code.to_be_bytes()[..], b"x"].concat();
        let expected = Authentication::Unsupported { code, data: b"x" };
        let message = decode(Framer::startup(), &stream);
        assert_eq!(message, Ok(BackendMessage::Authentication(expected)));
    }
}

/// T19: a key has 4 to 256 bytes, and `Debug` shows none of them.
#[test]
fn secret_keys_have_a_legal_length_and_are_not_shown() {
    let established = Framer::established();
    let expected = "length word 8 is below 12 in BackendKeyData";
    assert_eq!(fault(established, "4b 00000008 00000007"), expected);
    let expected = "length word 265 is above 264 in BackendKeyData";
    assert_eq!(fault(established, "4b 00000109 00000007"), expected);
    let short = Frame::new(b'K', &[0, 0, 0, 7, 1, 2, 3]);
    let expected = "secret key length is 3 where 4 to 256 is expected in BackendKeyData";
    assert_eq!(BackendMessage::decode(short).unwrap_err().to_string(), expected);

    let secret_key = [0xa5; 256];
    let mut out = BytesMut::new();
    let message =
        BackendMessage::BackendKeyData(BackendKeyData { process_id: 7, secret_key: &secret_key });
    message.encode(&mut out).unwrap();
    assert_eq!(decode(established, &out), Ok(message));
    assert_eq!(format!("{message:?}"), "BackendKeyData(process id 7)");
    let too_long = BackendKeyData { process_id: 7, secret_key: &[0; 257] };
    let error = BackendMessage::BackendKeyData(too_long).encode(&mut out).unwrap_err();
    assert_eq!(error.to_string(), "secret key must be 4 to 256 bytes in BackendKeyData");
}

/// E4, V24, E5: messages without fields, without an SQLSTATE, without the final zero byte.
#[test]
fn diagnostics_need_an_end_but_no_fields() {
    let established = Framer::established();
    let empty = hex("45 00000005 00");
    let BackendMessage::ErrorResponse(fields) = decode(established, &empty).unwrap() else {
        panic!("not an ErrorResponse")
    };
    let error = DbError::from(fields);
    assert_eq!((error.code(), error.message(), error.hint()), ("", "", None));
    assert_eq!(error.severity(), Severity::Unknown);
    assert!(error.is_fatal());
    assert_eq!(error.to_string(), "error: ");

    for (bytes, expected) in [
        ("45 00000004", "length word 4 is below 5 in ErrorResponse"),
        ("45 0000000d 53 4552524f5200 4d 78", "field value is not ended by a NUL in ErrorResponse"),
        ("45 00000005 53", "field value is not ended by a NUL in ErrorResponse"),
        (
            "45 0000000b 53 4552524f5200",
            "field code needs 1 bytes and 0 are left of the body in ErrorResponse",
        ),
        ("4e 00000006 00 00", "expected the end and found 1 more bytes in NoticeResponse"),
    ] {
        assert_eq!(fault(established, bytes), expected);
    }
}

/// E7: `Display` and `Debug` escape a hostile text, the getters return it unchanged.
#[test]
fn hostile_text_is_escaped_and_its_bytes_are_kept() {
    let message = b"\x1b[2Jpwned\r\n\xe2\x80\xae caf\xe9";
    let body = [b"SFATAL\0VFATAL\0C57P01\0M", &message[..], b"\0Hhint\0\0"].concat();
    let frame = Frame::new(b'E', &body);
    let BackendMessage::ErrorResponse(fields) = BackendMessage::decode(frame).unwrap() else {
        panic!("not an ErrorResponse")
    };
    let error = DbError::from(fields);
    assert_eq!(
        error.to_string(),
        "FATAL: \\u{1b}[2Jpwned\\r\\n\\u{202e} caf\u{fffd} (SQLSTATE 57P01)"
    );
    assert!(!format!("{error:?}{fields:?}").chars().any(|shown| shown.is_control()));
    assert_eq!(error.message(), "\u{1b}[2Jpwned\r\n\u{202e} caf\u{fffd}");
    assert_eq!(error.field(b'M'), Some(&message[..]));
    assert_eq!((error.code(), error.hint()), ("57P01", Some("hint")));
}

/// E11, E12: the severity comes from `V`. Without `V`, the SQLSTATE determines whether the session has ended.
#[test]
fn severities_are_classified() {
    use Severity::{Error, Fatal, Panic, Unknown, Warning};
    let cases = [
        ("SFEHLER\0C42501\0", Unknown, false),
        ("SFEHLER\0C57P01\0", Unknown, true),
        ("SFEHLER\0C25P03\0", Unknown, true),
        ("SFEHLER\0C57014\0", Unknown, false),
        ("SFEHLER\0", Unknown, true),
        ("SFEHLER\0VERROR\0C57P01\0", Error, false),
        ("SFATAL\0C42501\0", Fatal, true),
        ("SPANIC\0VPANIC\0CXX000\0", Panic, true),
        ("SXYZ\0VXYZ\0C42501\0", Unknown, true),
        ("SXYZ\0", Unknown, true),
        ("SWARNUNG\0VWARNING\0C57P02\0", Warning, false),
        ("VDEBUG3\0", Severity::Debug, false),
        ("C42501\0", Unknown, true),
    ];
    for (fields, severity, is_fatal) in cases {
        let body = [fields.as_bytes(), b"\0"].concat();
        let message = BackendMessage::decode(Frame::new(b'E', &body)).unwrap();
        let BackendMessage::ErrorResponse(fields_found) = message else { panic!("{message:?}") };
        let error = DbError::from(fields_found);
        assert_eq!((error.severity(), error.is_fatal()), (severity, is_fatal), "{fields:?}");
    }
}

/// T14, and version 3.9999, which newer clients use for tests.
#[test]
fn a_negotiated_version_is_read_with_its_options() {
    let plain = hex("76 0000000c 00030000 00000000");
    let grease = hex("76 00000014 0003270f 00000001 5f70715f2e7800 00");
    let expected = BackendMessage::NegotiateProtocolVersion {
        version: ProtocolVersion::V3_0,
        options: (&[]).into(),
    };
    assert_eq!(decode(Framer::startup(), &plain), Ok(expected));
    let frame = Framer::startup().next(&grease).unwrap().unwrap();
    assert!(matches!(
        BackendMessage::decode(frame).unwrap_err().fault(),
        DecodeFault::Leftover { bytes: 1 }
    ));
    let negative = "option count is -1 where 0 or more is expected in NegotiateProtocolVersion";
    assert_eq!(fault(Framer::startup(), "76 0000000c 00030000 ffffffff"), negative);
    let short = "name is not ended by a NUL in NegotiateProtocolVersion";
    assert_eq!(fault(Framer::startup(), "76 0000000c 00030000 7fffffff"), short);
}
