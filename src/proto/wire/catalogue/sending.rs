//! V12, T24, L1: the messages of a client, and values that it must not send.

use bytes::BytesMut;

use super::*;

/// V12, T24: a value that cannot be encoded is an error, and the buffer is unchanged.
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
        FrontendMessage::Bind {
            portal: "\0",
            statement: "",
            parameter_formats: (&[]).into(),
            parameters: (&[]).into(),
            result_formats: (&[]).into(),
        },
    ] {
        assert!(message.encode(&mut out).is_err(), "{message:?}");
    }
    let many = vec![None; 65_536];
    let bind = FrontendMessage::Bind {
        portal: "",
        statement: "",
        parameter_formats: (&[]).into(),
        parameters: many[..].into(),
        result_formats: (&[]).into(),
    };
    assert!(matches!(bind.encode(&mut out), Err(EncodeError::TooMany { count: 65_536, .. })));
    assert!(PasswordMessage(b"a\0b").encode(&mut out).is_err());
    assert!(out.is_empty());
}

/// The longest startup packet that a server accepts, and one byte more.
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

/// The packets without a type byte, as in the manual.
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
            FrontendMessage::Bind {
                portal: "",
                statement: "s",
                parameter_formats: (&[]).into(),
                parameters: (&parameters).into(),
                result_formats: (&[]).into(),
            },
            "42 00000016 00 7300 0000 0002 00000001 78 ffffffff 0000",
        ),
        (
            FrontendMessage::Bind {
                portal: "",
                statement: "s",
                parameter_formats: (&[1, 0]).into(),
                parameters: (&parameters).into(),
                result_formats: (&[1]).into(),
            },
            "42 0000001c 00 7300 0002 0001 0000 0002 00000001 78 ffffffff 0001 0001",
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

/// L1: `Debug` of the messages shows no secret.
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
