//! Properties of the codec over generated messages and over arbitrary bytes.

use bytes::BytesMut;
use pgbell::proto::wire::{
    Authentication, BackendKeyData, BackendMessage, ColumnDescription, CopyResponse, DbError,
    DecodeError, DecodeFault, Diagnostic, FirstPacket, Frame, Framer, FrontendMessage,
    PasswordMessage, ProtocolVersion, RawNotification, Run, SaslInitialResponse, SaslResponse,
    Severity, StartupPacket, Stop, Target, TransactionStatus, frames, scan,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// The values for one message of every kind.
#[derive(Debug, Clone)]
struct Pool {
    text: String,
    name: String,
    bytes: Vec<u8>,
    word: i32,
    short: i16,
    key: Vec<u8>,
    oids: Vec<u32>,
    formats: Vec<i16>,
    values: Vec<Option<Vec<u8>>>,
    strings: Vec<String>,
}

fn pools() -> impl Strategy<Value = Pool> {
    (
        ("[^\0]{0,40}", "[^\0]{1,20}", vec(any::<u8>(), 0..40), any::<i32>(), any::<i16>()),
        (vec(any::<u8>(), 4..=256), vec(any::<u32>(), 0..5), vec(any::<i16>(), 0..5)),
        (vec(proptest::option::of(vec(any::<u8>(), 0..20)), 0..5), vec("[^\0]{1,9}", 1..5)),
    )
        .prop_map(
            |((text, name, bytes, word, short), (key, oids, formats), (values, strings))| Pool {
                text,
                name,
                bytes,
                word,
                short,
                key,
                oids,
                formats,
                values,
                strings,
            },
        )
}

/// Calls `check` with one message of every kind of the server.
fn every_backend_message(pool: &Pool, mut check: impl FnMut(BackendMessage<'_>)) {
    use BackendMessage as M;
    let (text, name, bytes) = (pool.text.as_bytes(), pool.name.as_bytes(), &pool.bytes[..]);
    let names: Vec<&[u8]> = pool.strings.iter().map(String::as_bytes).collect();
    let mechanisms = [names.join(&0), vec![0, 0]].concat();
    let salt = pool.word.to_be_bytes();
    let code = pool.word.checked_abs().map_or(99, |code| code.saturating_add(13));
    for authentication in [
        Authentication::Ok,
        Authentication::CleartextPassword,
        Authentication::Md5Password { salt },
        Authentication::Sasl { mechanisms: &mechanisms },
        Authentication::SaslContinue(bytes),
        Authentication::SaslFinal(bytes),
        Authentication::Unsupported { code, data: bytes },
    ] {
        check(M::Authentication(authentication));
    }
    let error = DbError::new(Severity::Fatal, "57P01", &pool.text).with_field(b'H', &pool.name);
    let values: Vec<Option<&[u8]>> = pool.values.iter().map(Option::as_deref).collect();
    let column = ColumnDescription {
        name: text,
        table_oid: 3,
        attribute_number: pool.short,
        type_oid: 25,
        type_size: -1,
        type_modifier: pool.word,
        format: 0,
    };
    let columns = vec![column; pool.values.len()];
    let copy = CopyResponse { format: 1, columns: pool.formats[..].into() };
    for message in [
        M::BackendKeyData(BackendKeyData { process_id: pool.word, secret_key: &pool.key }),
        M::ParameterStatus { name, value: text },
        M::NoticeResponse(Diagnostic::from(&error)),
        M::ErrorResponse(Diagnostic::from(&error)),
        M::NotificationResponse(RawNotification {
            process_id: pool.word,
            channel: name,
            payload: text,
        }),
        M::ReadyForQuery { status: TransactionStatus::Idle },
        M::ReadyForQuery { status: TransactionStatus::InTransaction },
        M::ReadyForQuery { status: TransactionStatus::Failed },
        M::CommandComplete { tag: text },
        M::EmptyQueryResponse,
        M::RowDescription { columns: columns[..].into() },
        M::DataRow { values: values[..].into() },
        M::CopyInResponse(copy),
        M::CopyOutResponse(copy),
        M::CopyBothResponse(copy),
        M::CopyData(bytes),
        M::CopyDone,
        M::NegotiateProtocolVersion { version: ProtocolVersion::V3_2, options: names[..].into() },
        M::ParseComplete,
        M::BindComplete,
        M::CloseComplete,
        M::NoData,
        M::PortalSuspended,
        M::ParameterDescription { types: pool.oids[..].into() },
        M::FunctionCallResponse { value: None },
        M::FunctionCallResponse { value: Some(bytes) },
    ] {
        check(message);
    }
}

/// Calls `check` with one message of every kind of the client.
fn every_frontend_message(pool: &Pool, mut check: impl FnMut(FrontendMessage<'_>)) {
    use FrontendMessage as M;
    let (text, name) = (pool.text.as_str(), pool.name.as_str());
    let values: Vec<Option<&[u8]>> = pool.values.iter().map(Option::as_deref).collect();
    for message in [
        M::Password(&pool.bytes),
        M::Query(text),
        M::Parse { statement: name, query: text, parameter_types: pool.oids[..].into() },
        M::Bind {
            portal: name,
            statement: text,
            parameter_formats: (&[1, 0]).into(),
            parameters: values[..].into(),
            result_formats: (&[1]).into(),
        },
        M::Describe { target: Target::Statement, name },
        M::Describe { target: Target::Portal, name: text },
        M::Execute { portal: name, max_rows: pool.word },
        M::Close { target: Target::Statement, name },
        M::Close { target: Target::Portal, name: text },
        M::Sync,
        M::Flush,
        M::CopyData(&pool.bytes),
        M::CopyDone,
        M::CopyFail(text),
        M::Terminate,
    ] {
        check(message);
    }
}

/// The frames of a stream that grows in these steps, as (tag, body).
fn frames_of_growing(
    framer: Framer,
    stream: &[u8],
    steps: &[usize],
) -> (Vec<(u8, Vec<u8>)>, Option<DecodeError>) {
    let (mut found, mut start, mut end) = (Vec::new(), 0, 0);
    for step in steps.iter().copied().chain([stream.len()]) {
        end = (end + step).min(stream.len());
        loop {
            match framer.next(&stream[start..end]) {
                Ok(Some(frame)) => {
                    found.push((frame.tag, frame.body.to_vec()));
                    start += frame.wire_len();
                }
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

/// A stream that is mostly notifications, some with a payload that is not UTF-8, with some bytes damaged.
fn nearly_notifications() -> impl Strategy<Value = Vec<u8>> {
    let text = "[a-zäß\u{1f514}]{0,10}".prop_map(String::into_bytes);
    let payload = prop_oneof![9 => text, 1 => vec(1..=u8::MAX, 0..20)];
    let one = ("[a-cé]{1,12}", payload, any::<i32>());
    let damage = proptest::option::weighted(0.5, (any::<prop::sample::Index>(), any::<u8>()));
    (vec(one, 0..12), damage).prop_map(|(list, damage)| {
        let mut bytes = Vec::new();
        for (channel, payload, process_id) in &list {
            let body =
                [&process_id.to_be_bytes(), channel.as_bytes(), b"\0", payload, b"\0"].concat();
            bytes.push(b'A');
            bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
            bytes.extend_from_slice(&body);
        }
        if let (Some((index, byte)), false) = (damage, bytes.is_empty()) {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

/// The expected results of `scan` and `frames`, computed with the framer and the decoder.
fn notifications_by_decoding(input: &[u8]) -> (Vec<RawNotification<'_>>, Run, Stop) {
    let (mut found, mut run) = (Vec::new(), Run::default());
    loop {
        let rest = &input[run.bytes..];
        if rest.first().is_some_and(|&tag| tag != b'A') {
            return (found, run, Stop::OtherMessage);
        }
        let frame = match Framer::established().next(rest) {
            Ok(None) => return (found, run, Stop::NeedMore),
            Ok(Some(frame)) => frame,
            Err(error) => return (found, run, Stop::Invalid(error)),
        };
        match BackendMessage::decode(frame) {
            Ok(BackendMessage::NotificationResponse(one)) => found.push(one),
            Ok(other) => panic!("{other:?}"),
            Err(error) => return (found, run, Stop::Invalid(error)),
        }
        run = Run { count: run.count + 1, bytes: run.bytes + frame.wire_len() };
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decoding_returns_the_encoded_message(pool in pools()) {
        every_backend_message(&pool, |message| {
            let mut out = BytesMut::from(&b"before"[..]);
            message.encode(&mut out).unwrap();
            let frame = Framer::established().next(&out[6..]).unwrap().unwrap();
            assert_eq!(frame.wire_len(), out.len() - 6);
            assert_eq!(BackendMessage::decode(frame), Ok(message));
        });
        every_frontend_message(&pool, |message| {
            let mut out = BytesMut::from(&b"before"[..]);
            message.encode(&mut out).unwrap();
            let frame = Framer::frontend().next(&out[6..]).unwrap().unwrap();
            assert_eq!(frame.wire_len(), out.len() - 6);
            assert_eq!(FrontendMessage::decode(frame), Ok(message));
        });
    }

    #[test]
    fn answers_and_first_packets_are_decoded_as_encoded(pool in pools()) {
        let password = PasswordMessage(pool.text.as_bytes());
        let initial = SaslInitialResponse { mechanism: &pool.name, data: Some(&pool.bytes) };
        let without = SaslInitialResponse { mechanism: &pool.name, data: None };
        let response = SaslResponse(&pool.bytes);
        let mut out = BytesMut::new();
        password.encode(&mut out).unwrap();
        initial.encode(&mut out).unwrap();
        without.encode(&mut out).unwrap();
        response.encode(&mut out).unwrap();
        let (found, error) = frames_of_growing(Framer::frontend(), &out, &[]);
        prop_assert_eq!(error, None);
        prop_assert_eq!(PasswordMessage::decode(&found[0].1), Ok(password));
        prop_assert_eq!(SaslInitialResponse::decode(&found[1].1), Ok(initial));
        prop_assert_eq!(SaslInitialResponse::decode(&found[2].1), Ok(without));
        prop_assert_eq!(SaslResponse::decode(&found[3].1), response);

        let parameters: Vec<(&str, &str)> =
            pool.strings.iter().map(|name| (name.as_str(), pool.text.as_str())).collect();
        for packet in [
            StartupPacket::SslRequest,
            StartupPacket::GssEncRequest,
            StartupPacket::CancelRequest { process_id: pool.word, secret_key: &pool.key },
            StartupPacket::Startup {
                version: ProtocolVersion::V3_0,
                parameters: parameters[..].into(),
            },
        ] {
            let mut out = BytesMut::new();
            packet.encode(&mut out).unwrap();
            for end in 0..out.len() {
                prop_assert_eq!(FirstPacket::next(&out[..end]), Ok(None));
            }
            let found = FirstPacket::next(&out).unwrap().unwrap();
            prop_assert_eq!(found.wire_len(), out.len());
            prop_assert_eq!(StartupPacket::decode(found), Ok(packet));
        }
    }

    #[test]
    fn a_truncated_message_is_never_a_frame(pool in pools()) {
        every_backend_message(&pool, |message| {
            let mut out = BytesMut::new();
            message.encode(&mut out).unwrap();
            for end in 0..out.len() {
                assert_eq!(Framer::established().next(&out[..end]), Ok(None));
                assert_eq!(scan(&out[..end]).0, Run::default());
            }
        });
    }

    #[test]
    fn a_truncated_body_is_an_error_or_another_message_but_never_a_panic(pool in pools()) {
        let check = |tag, body: &[u8]| {
            for end in 0..body.len() {
                let cut = BackendMessage::decode(Frame::new(tag, &body[..end]));
                if let Ok(message) = cut {
                    // A decoded message must encode to the same bytes.
                    let mut out = BytesMut::new();
                    message.encode(&mut out).unwrap();
                    assert_eq!(&out[5..], &body[..end]);
                }
            }
        };
        every_backend_message(&pool, |message| {
            let mut out = BytesMut::new();
            message.encode(&mut out).unwrap();
            check(out[0], &out[5..]);
        });
    }

    #[test]
    fn every_split_gives_the_same_frames(pool in pools(), steps in vec(0..9_usize, 0..200)) {
        let mut backend = BytesMut::new();
        every_backend_message(&pool, |message| message.encode(&mut backend).unwrap());
        let mut frontend = BytesMut::new();
        every_frontend_message(&pool, |message| message.encode(&mut frontend).unwrap());
        let bytewise = vec![1; backend.len().max(frontend.len())];
        for (framer, stream) in [(Framer::established(), backend), (Framer::frontend(), frontend)] {
            let whole = frames_of_growing(framer, &stream, &[]);
            prop_assert_eq!(&whole.1, &None);
            prop_assert_eq!(&frames_of_growing(framer, &stream, &steps), &whole);
            prop_assert_eq!(&frames_of_growing(framer, &stream, &bytewise), &whole);
        }
    }

    /// A header alone determines whether a message is complete, long or invalid, and more bytes never change that.
    #[test]
    fn a_length_word_has_the_same_meaning_however_many_bytes_follow(
        tag in any::<u8>(),
        length in prop_oneof![0..40_u32, 29_000..31_000_u32, 1_048_000..1_049_000_u32, any::<u32>()],
        more in 0..40_usize,
    ) {
        let head = [&[tag][..], &length.to_be_bytes()].concat();
        let stream = [&head[..], &vec![b'x'; more]].concat();
        for framer in [Framer::startup(), Framer::established(), Framer::frontend()] {
            let long = framer.long(&head);
            prop_assert_eq!(long, framer.long(&stream));
            for end in 0..5 {
                prop_assert_eq!(framer.long(&head[..end]), None);
            }
            match (framer.next(&head), long) {
                (Ok(_), long) => prop_assert_eq!(long, None),
                (Err(_), None) => {}
                (Err(error), Some(long)) => {
                    let is_cap = matches!(error.fault(), DecodeFault::LengthAboveCap { .. });
                    prop_assert!(is_cap, "{}", error);
                    prop_assert_eq!((long.tag, long.name), (tag, error.message_name()));
                    prop_assert_eq!(long.wire_len(), usize::try_from(length).unwrap() + 1);
                    prop_assert!(long.whole(&stream).is_none());
                }
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        tag in prop_oneof![any::<u8>(), prop::sample::select(&b"RKSNAEZCITDGHWdcv123ntsVBPQXFf"[..])],
        body in vec(prop_oneof![Just(0_u8), Just(0xff), 1..9_u8, any::<u8>()], 0..60),
        steps in vec(0..9_usize, 0..30),
    ) {
        if let Ok(message) = BackendMessage::decode(Frame::new(tag, &body)) {
            let _ = format!("{message:?}");
            let mut out = BytesMut::new();
            message.encode(&mut out).unwrap();
            prop_assert_eq!(&out[5..], &body[..]);
        }
        if let Ok(message) = FrontendMessage::decode(Frame::new(tag, &body)) {
            let _ = format!("{message:?}");
            let mut out = BytesMut::new();
            message.encode(&mut out).unwrap();
            let again = Framer::frontend().next(&out).unwrap().unwrap();
            prop_assert_eq!(FrontendMessage::decode(again), Ok(message));
        }
        let _ = (PasswordMessage::decode(&body), SaslInitialResponse::decode(&body));
        if let Ok(packet) = StartupPacket::decode(FirstPacket { body: &body }) {
            let mut out = BytesMut::new();
            packet.encode(&mut out).unwrap();
            prop_assert_eq!(&out[4..], &body[..]);
        }
        let _ = FirstPacket::next(&body);

        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        let stream = [&[tag][..], &length[..], &body[..]].concat();
        for framer in [Framer::startup(), Framer::established(), Framer::frontend()] {
            let whole = frames_of_growing(framer, &stream, &[]);
            let split = frames_of_growing(framer, &stream, &steps);
            prop_assert_eq!(whole.0, split.0);
            prop_assert_eq!(whole.1.is_some(), split.1.is_some());
        }
    }

    #[test]
    fn the_scanner_agrees_with_the_framer_and_the_decoder(input in nearly_notifications()) {
        for end in 0..=input.len() {
            let input = &input[..end];
            let (expected, run, stop) = notifications_by_decoding(input);
            prop_assert_eq!(scan(input), (run, stop));
            prop_assert_eq!(frames(&input[..run.bytes]).collect::<Vec<_>>(), &expected[..]);
            let all: Vec<_> = frames(input).collect();
            prop_assert!(all.starts_with(&expected));
            for n in 0..=run.count {
                let first = Run::first(n, &input[..run.bytes]);
                prop_assert_eq!(first.count, n);
                prop_assert_eq!(scan(&input[..first.bytes]), (first, Stop::NeedMore));
            }
        }
    }

    /// This is true for every message, however long its parts are.
    #[test]
    fn the_shown_text_of_a_message_is_bounded(byte in any::<u8>(), tag in 0..256_usize) {
        let tag = u8::try_from(tag).unwrap();
        let bodies = [
            vec![byte; 200_000],
            [&vec![byte; 100_000][..], b"\0", &vec![byte; 100_000][..], b"\0\0"].concat(),
            [&20_000_u16.to_be_bytes()[..], &vec![0xff; 80_000]].concat(),
            [&b"\0\0\0\x0a"[..], &vec![byte; 100_000], b"\0\0"].concat(),
        ];
        for body in bodies {
            if let Ok(message) = BackendMessage::decode(Frame::new(tag, &body)) {
                let shown = format!("{message:?}");
                prop_assert!(shown.len() < 256 * 1024, "{} bytes", shown.len());
            }
        }
    }

    #[test]
    fn the_text_of_a_server_is_shown_without_control_characters(fields in vec(any::<u8>(), 0..80)) {
        let body = [&fields[..], b"\0\0"].concat();
        if let Ok(BackendMessage::ErrorResponse(found)) =
            BackendMessage::decode(Frame::new(b'E', &body))
        {
            let error = DbError::from(found);
            let shown = format!("{error}{error:?}");
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert_eq!(Diagnostic::from(&error), found);
        }
    }
}
