//! The startup, from the startup packet to the first ReadyForQuery.

use super::*;
use crate::proto::wire::Severity;

const REFUSED: &str = "over: server error: the server refused the connection: ";
const BROKEN: &str = "over: protocol violation: ";

#[test]
fn the_startup_packet_names_the_user_and_asks_for_utf8() {
    let play = Scene::new().begin();
    let parameters = b"user\0bob\0database\0db\0client_encoding\0UTF8\0\0";
    let expect = [&hex("00000033 00030000")[..], parameters].concat();
    assert_eq!(play.sent.escape_ascii().to_string(), expect.escape_ascii().to_string());
}

/// T24.
#[test]
fn startup_parameters_with_a_nul_or_that_are_too_long_are_refused_and_nothing_is_sent() {
    let long = "x".repeat(10_000);
    for (name, value) in [
        ("application_name", "x\0user\0admin"),
        ("database", "\0"),
        ("opt\0ions", "x"),
        ("options", long.as_str()),
    ] {
        let parameters = vec![(name.to_owned(), value.to_owned())];
        let error = Session::new(Login { parameters, ..login() }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{name}");
        assert!(!format!("{error} {error:?}").contains("admin"));
    }
    assert!(Credentials::new("bob\0").is_err());
}

#[test]
fn a_successful_login_makes_the_session_ready() {
    check(&Scene::new(), &PRELUDE, &["ready"]);
    let mut play = Scene::new().begin();
    play.feed(&join(&PRELUDE));
    assert_eq!(play.session.process_id(), Some(7));
    assert_eq!(play.session.parameter("server_version"), Some("18.7"));
    assert_eq!(play.session.parameter("client_encoding"), Some("UTF8"));
    assert_eq!(play.session.protocol_version(), ProtocolVersion::V3_0);
    assert_eq!(play.session.transaction_status(), wire::TransactionStatus::Idle);
    assert_eq!(play.session.poll_timeout(), None);
    assert_eq!(play.session.notices(), (0, None));
}

/// 28P01 and 28000 keep their codes. Without a password there is a hint.
#[test]
fn a_refusal_without_a_password_has_a_hint() {
    let hint = " (hint: no password was given: set password, PGPASSWORD or a password file)";
    for code in ["28P01", "28000"] {
        let line = format!("{REFUSED}FATAL: no (SQLSTATE {code})");
        let line = line.replace("server error", "authentication");
        for (scene, hint) in [(Scene::new(), hint), (Scene::with_password(), "")] {
            check_bytes(&scene, &refusal(code), &[&format!("{line}{hint}")]);
        }
    }
}

pub(super) fn refusal(code: &str) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    wire::DbError::new(Severity::Fatal, code, "no").encode_error(&mut bytes).unwrap();
    bytes.to_vec()
}

/// T16.
#[test]
fn a_refusal_keeps_its_sqlstate_in_every_state_of_the_startup() {
    for (code, kind, transient) in [
        ("53300", ErrorKind::Server, true),
        ("57P03", ErrorKind::Server, true),
        ("3D000", ErrorKind::Server, false),
        ("28000", ErrorKind::Auth, false),
        ("28P01", ErrorKind::Auth, false),
        ("22023", ErrorKind::Server, false),
    ] {
        for scene in [Scene::new(), Scene::authenticated()] {
            let mut play = scene.begin();
            play.feed(&refusal(code));
            let error = play.eof();
            assert_eq!(error.sqlstate(), Some(code));
            assert_eq!((error.kind(), error.is_transient()), (kind, transient), "{code}");
            let line = play.log[0].clone();
            assert!(line.contains(&format!("FATAL: no (SQLSTATE {code})")), "{line}");
            check_bytes(&scene, &refusal(code), &[&line]);
        }
    }
    // Even with the severity ERROR: the server closes after it.
    check(&Scene::new(), &[ERROR], &[&format!("{REFUSED}ERROR: no (SQLSTATE 42501)")]);
}

/// T17.
#[test]
fn an_error_in_the_format_of_protocol_2_is_shown_escaped_and_can_be_retried() {
    let text = "could not fork new process for connection: Resource temporarily unavailable";
    let refused = "over: connection: the server refused the connection: ";
    check_bytes(
        &Scene::new(),
        &[b"E", text.as_bytes(), b"\n\0"].concat(),
        &[&format!("{refused}{text}")],
    );
    let hostile = b"Egone\x1b[2J\r\n\xff\xe2\x80\xae\0";
    let shown = "gone\\u{1b}[2J\\r\\n\u{fffd}\\u{202e}";
    check_bytes(&Scene::new(), hostile, &[&format!("{refused}{shown}")]);
    let mut play = Scene::new().begin();
    play.feed(hostile);
    let error = play.eof();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.is_transient());
}

/// T18.
#[test]
fn the_key_comes_at_most_once_and_before_the_server_is_ready() {
    let start = [AUTHENTICATION_OK, CLIENT_ENCODING].concat();
    check(&Scene::new(), &[&start, READY], &["ready"]);
    let during = |during| format!("{BROKEN}BackendKeyData does not belong to {during}");
    check(&Scene::new(), &[&start, KEY, KEY], &[&during("the startup")]);
    check(&Scene::new(), &[&start, READY, KEY], &["ready", &during("an idle session")]);
}

/// T23.
#[test]
fn another_client_encoding_is_refused_at_the_start_and_later() {
    let sql_ascii = "53 0000001e 636c69656e745f656e636f64696e6700 53514c5f415343494900";
    let refused = |found: &str| {
        format!(
            "over: unsupported: client_encoding {found}, expected UTF8 \
              (hint: a pooler, ALTER ROLE, options or a SET has changed client_encoding: \
             leave it at UTF8)"
        )
    };
    check(&Scene::authenticated(), &[sql_ascii, READY], &[&refused("is SQL_ASCII")]);
    check(&Scene::authenticated(), &[READY], &[&refused("was not reported")]);
    check(&Scene::idle(), &[A1, sql_ascii], &["A 1 a b", &refused("is SQL_ASCII")]);
    let encoding = |value: &str| message(b'S', format!("client_encoding\0{value}\0").as_bytes());
    for (value, shown) in
        [("SJIS", "SJIS"), ("UTF8;", "UTF8;"), ("", ""), ("\x1b[2J", "\\u{1b}[2J")]
    {
        let line = refused(&format!("is {shown}"));
        check_bytes(&Scene::idle(), &encoding(value), &[&line]);
    }
    // Spellings that PostgreSQL accepts for UTF8.
    for value in ["utf8", "UTF-8", "utf_8", "UNICODE"] {
        check_bytes(&Scene::idle(), &encoding(value), &[]);
    }
    // The last value counts.
    check(&Scene::authenticated(), &[sql_ascii, CLIENT_ENCODING, READY], &["ready"]);
}

/// T26.
#[test]
fn a_startup_with_too_many_messages_or_bytes_is_given_up() {
    let endless =
        [format!("{BROKEN}more than 1,000 messages or 1 MiB before the first ReadyForQuery")];
    let notice = message(b'N', &[b"SNOTICE\0M", &[b'x'; 84][..], b"\0\0"].concat());
    let status = message(b'S', &[b"a\0", &[b'x'; 96][..], b"\0"].concat());
    for flood in [&notice, &status] {
        let (log, _) = play(&Scene::authenticated(), &[&flood.repeat(100_000)]);
        assert_eq!(log, endless);
        // AuthenticationOk was the first of a thousand messages.
        let (log, _) = play(&Scene::authenticated(), &[&flood.repeat(999)]);
        assert_eq!(log, [""; 0]);
        let (log, _) = play(&Scene::authenticated(), &[&flood.repeat(1_000)]);
        assert_eq!(log, endless);
    }
    let long = message(b'S', &[b"a\0", &[b'x'; 29_990][..], b"\0"].concat());
    let (log, _) = play(&Scene::authenticated(), &[&long.repeat(34)]);
    assert_eq!(log, [""; 0]);
    let (log, _) = play(&Scene::authenticated(), &[&long.repeat(35)]);
    assert_eq!(log, endless);
    // Before authentication too.
    let (log, _) = play(&Scene::new(), &[&notice.repeat(1_001)]);
    assert_eq!(log, endless);
}

/// T28.
#[test]
fn a_warning_during_the_login_is_kept_and_reported_once() {
    let warning = "4e 00000019 535741524e494e4700 43303130303000 4d687500 00";
    let mut play = Scene::new().begin();
    play.feed(&join(&[AUTHENTICATION_OK, warning, CLIENT_ENCODING, KEY, READY]));
    assert_eq!(play.log, ["ready"]);
    let (count, last) = play.session.notices();
    assert_eq!((count, last.map(|notice| notice.code())), (1, Some("01000")));
}

#[test]
fn the_deadline_of_the_startup_applies_until_ready() {
    for (before, text) in [
        (Vec::new(), "timeout: the server did not complete authentication in time"),
        (
            hex(AUTHENTICATION_OK),
            "timeout: the server accepted the login and was not ready in time",
        ),
    ] {
        let mut play = Scene { before, ..Scene::new() }.begin();
        let deadline = play.session.poll_timeout().unwrap();
        assert!(play.session.handle_timeout(deadline - Duration::from_nanos(1)).is_ok());
        let error = play.session.handle_timeout(deadline).unwrap_err();
        assert_eq!(error.to_string(), text);
        assert_eq!(error.kind(), ErrorKind::Timeout);
        play.end(&error);
    }
}

#[test]
fn an_unknown_parameter_and_a_long_one_are_no_error_and_bounded() {
    let mut play = Scene::authenticated().begin();
    let long = message(b'S', &[b"long\0", &[b'x'; 20_000][..], b"\0"].concat());
    play.feed(&long);
    for number in 0..200 {
        play.feed(&message(b'S', format!("p{number}\0v\0").as_bytes()));
    }
    assert_eq!(play.session.parameter("long").map(str::len), Some(1_024));
    assert_eq!(play.session.parameter("p0"), Some("v"));
    assert_eq!(play.session.parameter("p199"), None);
    assert!(!play.over);
}
