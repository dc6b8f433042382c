//! The protocol version, and the cancel key, whose length depends on it.

use super::startup::refusal;
use super::*;

const REFUSED: &str = "over: server error: the server refused the connection: ";
const BROKEN: &str = "over: protocol violation: ";

/// T14.
#[test]
fn a_server_that_supports_only_3_0_negotiates_it() {
    let scene = newest();
    let negotiate = "76 0000000c 00030000 00000000";
    check(&scene, &[negotiate, &PRELUDE.concat()], &["ready"]);
    let mut play = scene.begin();
    assert_eq!(play.sent[4..8], hex("00030002"));
    play.feed(&join(&[negotiate, &PRELUDE.concat()]));
    assert_eq!(play.session.protocol_version(), ProtocolVersion::V3_0);
    // From here on the rules of 3.0 apply.
    let long_key = ["4b 00000028 00000007", &"ab".repeat(32)].concat();
    check(
        &scene,
        &[negotiate, AUTHENTICATION_OK, &long_key],
        &[&format!("{BROKEN}BackendKeyData has a key of 32 bytes, expected 4 in protocol 3.0")],
    );
}

/// Returns a session that has requested version 3.2.
fn newest() -> Scene {
    Scene { login: || Login { protocol: ProtocolVersion::V3_2, ..login() }, ..Scene::new() }
}

/// The rules of libpq for the message `v`.
#[test]
fn a_negotiation_that_makes_no_sense_ends_the_session() {
    let (plain, newest, greased) = (Scene::new(), newest(), greased());
    let after = Scene::authenticated();
    let asked = Scene { before: hex(SASL), ..Scene::with_password() };
    let fine = "76 0000000c 00030000 00000000";
    let late = "came twice, or after authentication has begun (3.0)";
    for (scene, bytes, why) in [
        (
            &plain,
            "76 0000000c 00030002 00000000",
            "offers a newer version than was asked for (3.2)",
        ),
        (
            &newest,
            "76 0000000c 0003270f 00000000",
            "offers a newer version than was asked for (3.9999)",
        ),
        (
            &newest,
            "76 0000000c 00040000 00000000",
            "offers a newer version than was asked for (4.0)",
        ),
        (
            &newest,
            "76 0000000c 80000000 00000000",
            "offers a newer version than was asked for (32768.0)",
        ),
        (&plain, "76 0000000c 00020000 00000000", "offers a version below 3.0 (2.0)"),
        (&plain, "76 0000000c 00000000 00000000", "offers a version below 3.0 (0.0)"),
        (&newest, "76 0000000c 00030001 00000000", "offers a version that does not exist (3.1)"),
        (&greased, "76 0000000c 00030003 00000000", "offers a version that is not supported (3.3)"),
        (&plain, fine, "changes nothing (3.0)"),
        (&newest, "76 0000000c 00030002 00000000", "changes nothing (3.2)"),
        (&greased, "76 0000000c 0003270f 00000000", "changes nothing (3.9999)"),
        (
            &greased,
            "76 00000013 0003270f 00000001 5f70715f2e6700",
            "offers a version that is not supported (3.9999)",
        ),
        (
            &newest,
            "76 00000013 00030000 00000001 5f70715f2e7800",
            "names an option that was not sent (3.0)",
        ),
        (
            &greased,
            "76 0000001a 00030002 00000002 5f70715f2e6700 5f70715f2e7800",
            "names an option that was not sent (3.2)",
        ),
        (
            &greased,
            "76 00000011 00030002 00000001 7573657200",
            "names an option that is not a protocol option (3.2)",
        ),
        (&after, fine, late),
        (&asked, fine, late),
    ] {
        check(scene, &[bytes], &[&format!("{BROKEN}NegotiateProtocolVersion {why}")]);
    }
    let late = format!("{BROKEN}NegotiateProtocolVersion {late}");
    check(&newest, &[fine, fine], &[&late]);
    check(
        &plain,
        &["76 0000000c 00030000 ffffffff"],
        &[
            "over: protocol violation: option count is -1 where 0 or more is expected in NegotiateProtocolVersion",
        ],
    );
}

const SASL: &str = "52 00000017 0000000a 534352414d2d5348412d32353600 00";

/// Returns a session that has requested a version and an option that do not exist.
fn greased() -> Scene {
    let login = || Login {
        protocol: ProtocolVersion::GREASE,
        parameters: vec![("_pq_.g".into(), String::new())],
        ..login()
    };
    Scene { login, ..Scene::new() }
}

/// T14, greased: a correct server answers with its version, and names the unknown option.
#[test]
fn a_greased_request_is_negotiated_down_and_never_accepted_unchanged() {
    let negotiate = "76 00000013 00030002 00000001 5f70715f2e6700";
    let key = ["4b 00000028 00000007", &"ab".repeat(32)].concat();
    let rest = [AUTHENTICATION_OK, CLIENT_ENCODING, &key, READY].concat();
    check(&greased(), &[negotiate, &rest], &["ready"]);
    let mut play = greased().begin();
    assert_eq!(play.sent[4..8], hex("0003270f"));
    assert!(play.sent.windows(8).any(|bytes| bytes == b"_pq_.g\0\0"));
    play.feed(&join(&[negotiate, &rest]));
    assert_eq!(play.session.protocol_version(), ProtocolVersion::V3_2);
    // Only the version is negotiated: the option is known.
    check(&greased(), &["76 0000000c 00030000 00000000", &PRELUDE.concat()], &["ready"]);
    let taken =
        format!("{BROKEN}version 3.9999 was requested and not negotiated, but does not exist");
    check(&greased(), &[AUTHENTICATION_OK], &[&taken]);
    check(&greased(), &[SASL], &[&taken]);
}

/// T14: `min_protocol_version`.
#[test]
fn a_server_below_the_lowest_protocol_version_is_refused() {
    let insisting = Scene {
        login: || Login {
            protocol: ProtocolVersion::V3_2,
            min_protocol: ProtocolVersion::V3_2,
            ..login()
        },
        ..Scene::new()
    };
    let over = "over: unsupported: the server supports protocol 3.0, and the lowest accepted is 3.2 \
                (hint: PostgreSQL 18 and later speak 3.2, poolers in between may not: lower \
                min_protocol_version)";
    check(&insisting, &["76 0000000c 00030000 00000000"], &[over]);
    check(&insisting, &[&PRELUDE.concat()], &["ready"]);
}

#[test]
fn protocol_versions_that_do_not_exist_are_not_requested() {
    let (v3_0, v3_2) = (ProtocolVersion::V3_0, ProtocolVersion::V3_2);
    for (protocol, min_protocol, says) in [
        (ProtocolVersion::V3_1, v3_0, "protocol 3.1 is not supported"),
        (ProtocolVersion(0x0003_0003), v3_0, "protocol 3.3 is not supported"),
        (ProtocolVersion(0x0002_0000), v3_0, "protocol 2.0 is not supported"),
        (v3_2, ProtocolVersion::V3_1, "the lowest protocol is 3.1, which is not supported"),
        (ProtocolVersion::GREASE, ProtocolVersion::GREASE, "the lowest protocol is 3.9999"),
        (v3_0, v3_2, "the lowest protocol is 3.2, which is above the highest, 3.0"),
    ] {
        let error = Session::new(Login { protocol, min_protocol, ..login() }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(says), "{error}");
        let hint = "min_protocol_version and max_protocol_version can be 3.0 or 3.2";
        assert_eq!(error.hint(), Some(hint));
    }
}

/// The pooler refuses before it negotiates.
#[test]
fn a_pooler_that_refuses_the_newer_protocol_gets_a_hint() {
    let line = |code| format!("{REFUSED}FATAL: no (SQLSTATE {code})");
    let hint = " (hint: the server does not negotiate the protocol: set max_protocol_version=3.0)";
    for code in ["0A000", "08P01"] {
        check_bytes(&newest(), &refusal(code), &[&format!("{}{hint}", line(code))]);
        check_bytes(&Scene::new(), &refusal(code), &[&line(code)]);
    }
    check_bytes(&newest(), &refusal("3D000"), &[&line("3D000")]);
}

/// The key of a CancelRequest, with every length of the protocol.
#[test]
fn the_cancel_key_is_kept_while_the_session_lives_and_never_shown() {
    for (scene, bytes) in [(Scene::new(), 4), (newest(), 4), (newest(), 32), (newest(), 256)] {
        let secret: Vec<u8> = (0..bytes).map(|n: u32| 0xa0 | (n % 16) as u8).collect();
        let key = message(b'K', &[&[0, 0, 0, 7][..], &secret].concat());
        let mut play = scene.begin();
        assert!(play.session.cancel_key().is_none());
        play.feed(&[hex(AUTHENTICATION_OK), hex(CLIENT_ENCODING), key, hex(READY)].concat());
        let kept = play.session.cancel_key().expect("a key");
        assert_eq!((kept.process_id(), play.session.process_id()), (7, Some(7)));
        let mut request = BytesMut::new();
        kept.encode_request(&mut request).unwrap();
        let head = (12 + bytes).to_be_bytes();
        assert_eq!(request, [&head[..], &hex("04d2162e 00000007"), &secret].concat());
        let shown = format!("{kept:?} {:?} {:?}", play.session, play.session.cancel_key());
        assert_eq!(format!("{kept:?}"), "CancelKey { process_id: 7, .. }");
        assert!(!shown.contains("160, 161"), "{shown}");
        play.eof();
        assert!(play.session.cancel_key().is_none());
    }
    let mut play = Scene::new().begin();
    play.feed(&join(&[AUTHENTICATION_OK, CLIENT_ENCODING, READY]));
    assert!(play.session.is_ready() && play.session.cancel_key().is_none());
}

/// T19.
#[test]
fn a_key_of_a_length_that_the_protocol_does_not_have_is_refused() {
    let newest = Scene { before: hex(AUTHENTICATION_OK), ..newest() };
    let malformed = "over: protocol violation: ";
    let short = format!("{malformed}length word 8 is below 12 in BackendKeyData");
    let long = format!("{malformed}length word 265 is above 264 in BackendKeyData");
    for scene in [&Scene::authenticated(), &newest] {
        check(scene, &["4b 00000008 00000007"], &[&short]);
        check(scene, &["4b 00000109 00000007", &"ab".repeat(257)], &[&long]);
    }
    let key_of_32 = ["4b 00000028 00000007", &"ab".repeat(32)].concat();
    check(
        &Scene::authenticated(),
        &[&key_of_32],
        &[&format!("{BROKEN}BackendKeyData has a key of 32 bytes, expected 4 in protocol 3.0")],
    );
    check(&newest, &[&key_of_32], &[]);
}
