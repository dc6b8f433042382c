//! Byte cases of the fault catalogue, at the level of the codec. The ids are the catalogue's.

use bytes::BytesMut;

use super::*;

/// Bytes from hex digits; blanks are for the reader.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|character| !character.is_whitespace())
        .map(|digit| u8::try_from(digit.to_digit(16).unwrap()).unwrap())
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Frames and decodes the head of `input`; the frame must take all of it.
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

/// F1, F2, F4: the length word alone decides, before any body.
#[test]
fn impossible_lengths_are_refused_with_five_bytes() {
    let established = Framer::established();
    for (bytes, expected) in [
        ("41 00000003", "length word 3 is below 11 in NotificationResponse"),
        ("41 00000000", "length word 0 is below 11 in NotificationResponse"),
        ("41 80000000", "length word 2147483648 is above 262144 in NotificationResponse"),
        ("41 ffffffff", "length word 4294967295 is above 262144 in NotificationResponse"),
        ("41 7fffffff", "length word 2147483647 is above 262144 in NotificationResponse"),
        ("4e 7fffffff", "length word 2147483647 is above 1048576 in NoticeResponse"),
        ("44 7fffffff", "length word 2147483647 is above 1048576 in DataRow"),
        ("5a 00000006", "length word 6 is above 5 in ReadyForQuery"),
    ] {
        assert_eq!(fault(established, bytes), expected);
        for prefix in 0..5 {
            assert_eq!(established.next(&hex(bytes)[..prefix]), Ok(None), "{bytes} {prefix}");
        }
    }
}

/// F3: one byte over the limit is refused, the limit itself is delivered.
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

/// F5: nothing a stranger announces is waited for.
#[test]
fn impossible_lengths_before_authentication_are_refused_with_five_bytes() {
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
fn an_error_in_the_form_of_protocol_2_is_a_frame_of_its_own() {
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

    // Text without an end is waited for up to the limit, not beyond.
    let endless = [b'E'; 30_001];
    assert_eq!(startup.next(&endless[..30_000]), Ok(None));
    assert!(startup.next(&endless).is_err());
    // After authentication there is no such form.
    assert!(Framer::established().next(&stream).is_err());
}

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

/// F8, F9, F11: every malformed notification, by the decoder and by the scanner alike.
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
            // Refused without its length word.
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
            Ok(Some(frame)) => assert!(b"HSXcdp".contains(&frame.tag), "{tag}"),
            Ok(None) => panic!("{tag}: waits for more"),
            Err(_) => assert!(!b"HSXcdp".contains(&tag), "{tag}"),
        }
    }
}

/// F14: other protocols are called what they are, and their bytes are escaped.
#[test]
fn peers_that_are_not_postgresql_are_recognised() {
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
        // Never an answer that later bytes would change.
        for end in 0..bytes.len() {
            match Framer::startup().next(&bytes[..end]) {
                Ok(found) => assert_eq!((found, end < 5), (None, true)),
                Err(error) => assert!(error.to_string().starts_with("not a PostgreSQL server")),
            }
        }
    }
}

#[test]
fn a_message_before_its_time_is_not_another_protocol() {
    for (bytes, name) in [("5a 00000005", "ReadyForQuery"), ("41 0000000c", "NotificationResponse")]
    {
        let expected =
            format!("expected an Authentication message and found {name} before authentication");
        assert_eq!(fault(Framer::startup(), bytes), expected);
    }
}

/// Q5, Q6 (V20): a row that promises more than it holds.
#[test]
fn rows_are_checked_to_their_last_byte() {
    let description = hex("54 0000002e 0002
         6300 00000000 0000 00000019 ffff ffffffff 0000
         6300 00000000 0000 00000019 ffff ffffffff 0000");
    let message = decode(Framer::established(), &description).unwrap();
    let column = Column::text(b"c");
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

/// N1, N2, N7: payloads are bytes, process ids are whatever 32 bits are.
#[test]
fn notifications_are_delivered_byte_for_byte() {
    let raw = hex("41 0000000d 00000001 6100 fffe00");
    assert_eq!(frames(&raw).next().unwrap().payload, [0xff, 0xfe]);
    let largest = vec![b'x'; 7_999];
    for payload in [&b""[..], b"x", b"\n\x01", "\u{1f514}".as_bytes(), &[0xe2, 0x82], &largest] {
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

/// No server sends one, but if one did it must not hide the rest of the payload.
#[test]
fn a_nul_inside_a_payload_does_not_end_it() {
    let stream = notification(b"a", b"x\0y");
    assert_eq!(frames(&stream).next().unwrap().payload, b"x\0y");
    let message = decode(Framer::established(), &stream).unwrap();
    let mut out = BytesMut::new();
    message.encode(&mut out).unwrap();
    assert_eq!(out, stream);
}

/// A11, A14: what a server asks for is checked before anyone answers.
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

/// A11: what was checked is iterated over in the server's order.
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

/// A15: requests that exist or do not, and that nobody here can answer.
#[test]
fn other_authentication_codes_are_values() {
    for code in [2, 6, 7, 8, 9, 99, -1_i32] {
        let stream = [b"R\0\0\0\x09", &code.to_be_bytes()[..], b"x"].concat();
        let expected = Authentication::Unsupported { code, data: b"x" };
        let message = decode(Framer::startup(), &stream);
        assert_eq!(message, Ok(BackendMessage::Authentication(expected)));
    }
}

/// T19: 4 to 256 bytes of key, and none of them in `Debug`.
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

/// E3, E4, E5: no field, no SQLSTATE, no end.
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

/// E7: hostile text is escaped where it is shown, and kept where it is asked for.
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

/// E11, E12: the word is taken from `V`; without it the SQLSTATE decides.
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

/// V12, T24: what cannot be sent is refused and leaves no byte behind.
#[test]
fn values_that_would_change_the_message_are_refused() {
    let long = "x".repeat(10_000);
    fn startup<'a>(parameters: &'a [(&'a str, &'a str)]) -> StartupPacket<'a> {
        let parameters = parameters.into();
        StartupPacket::Startup { version: ProtocolVersion::V3_0, parameters }
    }
    let mut out = BytesMut::new();
    for parameters in [
        [("user", "a"), ("application_name", "x\0user\0admin")],
        [("user\0", "a"), ("database", "b")],
        [("user", "a"), ("", "b")],
        [("user", "a"), ("options", long.as_str())],
    ] {
        assert!(startup(&parameters).encode(&mut out).is_err(), "{parameters:?}");
    }
    for message in [
        FrontendMessage::Query("SELECT 1\0"),
        FrontendMessage::CopyFail(&long),
        FrontendMessage::Parse { statement: "", query: "\0", parameter_types: (&[]).into() },
        FrontendMessage::Bind { portal: "\0", statement: "", parameters: (&[]).into() },
    ] {
        assert!(message.encode(&mut out).is_err(), "{message:?}");
    }
    let many = vec![None; 65_536];
    let bind = FrontendMessage::Bind { portal: "", statement: "", parameters: many[..].into() };
    assert!(matches!(bind.encode(&mut out), Err(EncodeError::TooMany { count: 65_536, .. })));
    assert!(PasswordMessage(b"a\0b").encode(&mut out).is_err());
    assert!(out.is_empty());
}

/// The longest startup packet a server reads, and one byte more.
#[test]
fn a_startup_body_has_10000_bytes_at_most() {
    let mut out = BytesMut::new();
    for (bytes, fits) in [(10_000 - 4 - 5 - 1 - 1, true), (10_000 - 4 - 5 - 1, false)] {
        let value = "x".repeat(bytes);
        let parameters = [("user", value.as_str())];
        let packet = StartupPacket::Startup {
            version: ProtocolVersion::V3_0,
            parameters: (&parameters).into(),
        };
        assert_eq!(packet.encode(&mut out).is_ok(), fits, "{bytes}");
    }
    assert_eq!(out.len(), 10_004);
    let packet = FirstPacket::next(&out).unwrap().unwrap();
    assert!(StartupPacket::decode(packet).is_ok());
    for word in ["00000007", "00000000", "00002715", "7fffffff", "ffffffff"] {
        assert!(FirstPacket::next(&hex(word)).is_err(), "{word}");
    }
}

/// The packets without type byte, as the manual gives them.
#[test]
fn first_packets_have_the_bytes_of_the_manual() {
    let parameters = [("user", "u"), ("database", "d")];
    let cases = [
        (StartupPacket::SslRequest, "00000008 04d2162f"),
        (StartupPacket::GssEncRequest, "00000008 04d21630"),
        (
            StartupPacket::CancelRequest { process_id: 7, secret_key: &[1, 2, 3, 4] },
            "00000010 04d2162e 00000007 01020304",
        ),
        (
            StartupPacket::Startup {
                version: ProtocolVersion::V3_2,
                parameters: (&parameters).into(),
            },
            "0000001b 00030002 7573657200 7500 646174616261736500 6400 00",
        ),
    ];
    for (packet, expected) in cases {
        let mut out = BytesMut::new();
        packet.encode(&mut out).unwrap();
        assert_eq!(out, hex(expected));
        assert_eq!(StartupPacket::decode(FirstPacket::next(&out).unwrap().unwrap()), Ok(packet));
    }
    for bytes in [
        "0000000c 04d2162f 00000000",
        "00000008 04d21699",
        "00000008 00030000",
        "0000000b 00030000 6100 00",
        "0000000a 00030000 0000",
        "0000000f 04d2162e 00000007 010203",
    ] {
        let bytes = hex(bytes);
        assert!(StartupPacket::decode(FirstPacket::next(&bytes).unwrap().unwrap()).is_err());
    }
}

/// The bytes of a LISTEN session, as a client sends them.
#[test]
fn frontend_messages_have_the_bytes_of_the_manual() {
    let parameters = [Some(&b"x"[..]), None];
    let cases = [
        (FrontendMessage::Query("LISTEN \"a\""), "51 0000000f 4c495354454e2022612200"),
        (FrontendMessage::Terminate, "58 00000004"),
        (FrontendMessage::Sync, "53 00000004"),
        (FrontendMessage::CopyFail("no"), "66 00000007 6e6f00"),
        (
            FrontendMessage::Parse { statement: "s", query: "q", parameter_types: (&[25]).into() },
            "50 0000000e 7300 7100 0001 00000019",
        ),
        (
            FrontendMessage::Bind { portal: "", statement: "s", parameters: (&parameters).into() },
            "42 00000016 00 7300 0000 0002 00000001 78 ffffffff 0000",
        ),
        (FrontendMessage::Describe { target: Target::Portal, name: "" }, "44 00000006 50 00"),
        (FrontendMessage::Execute { portal: "", max_rows: 0 }, "45 00000009 00 00000000"),
    ];
    for (message, expected) in cases {
        let mut out = BytesMut::new();
        message.encode(&mut out).unwrap();
        assert_eq!(out, hex(expected), "{message:?}");
        let frame = Framer::frontend().next(&out).unwrap().unwrap();
        assert_eq!(FrontendMessage::decode(frame), Ok(message));
    }
}

/// L1 at codec level: what is secret is not in `Debug`.
#[test]
fn secrets_are_not_shown() {
    let secret = b"hunter2-r=nonce";
    let mut out = BytesMut::new();
    SaslInitialResponse { mechanism: "SCRAM-SHA-256", data: Some(secret) }
        .encode(&mut out)
        .unwrap();
    let frame = Framer::frontend().next(&out).unwrap().unwrap();
    let FrontendMessage::Password(body) = FrontendMessage::decode(frame).unwrap() else {
        panic!("not a password")
    };
    let shown = [
        format!("{frame:?}"),
        format!("{:?}", FrontendMessage::Password(secret)),
        format!("{:?}", SaslInitialResponse::decode(body).unwrap()),
        format!("{:?}", SaslResponse::decode(secret)),
        format!("{:?}", PasswordMessage(secret)),
        format!("{:?}", BackendMessage::Authentication(Authentication::SaslContinue(secret))),
        format!("{:?}", Authentication::SaslFinal(secret)),
        format!("{:?}", Authentication::Unsupported { code: 8, data: secret }),
        format!("{:?}", BackendKeyData { process_id: 1, secret_key: secret }),
        format!("{:?}", StartupPacket::CancelRequest { process_id: 1, secret_key: secret }),
        format!("{:?}", FirstPacket { body: secret }),
        format!("{:?}", BackendMessage::CopyData(secret)),
        format!("{:?}", BackendMessage::DataRow { values: (&[Some(&secret[..])]).into() }),
    ]
    .concat();
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(!shown.contains("104, 117, 110"), "{shown}");
}

/// T14, and the greased version of newer clients' tests.
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
