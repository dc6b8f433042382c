//! Faults T of the catalogue in `tests/README.md`: from the startup packet to the first ReadyForQuery. T1 to T12 (TLS) are
//! elsewhere.

use std::io::Read;
use std::net::TcpListener;

use pgbell::proto::session::Login;
use pgbell::proto::wire::ProtocolVersion;
use pgbell::testing::{Delivery, Script};
use pgbell::{Config, Connection, ErrorKind, Listener};

use super::attack::{
    Attack, LISTEN, after_authentication, at_login, harmless_at_login, hex, message, runtime,
    when_idle,
};
use super::client::{self, Action, check_text, soon, url};

const OK: &str = "52 00000008 00000000";
const UTF8: &str = "53 00000019 636c69656e745f656e636f64696e6700 5554463800";
const KEY: &str = "4b 0000000c 00000007 00000001";
const READY: &str = "5a 00000005 49";
/// The server supports only version 3.0.
const ONLY_3_0: &str = "76 0000000c 00030000 00000000";

fn join(parts: &[&str]) -> Vec<u8> {
    hex(&parts.concat())
}

fn diagnostic(tag: u8, fields: &[&str]) -> Vec<u8> {
    let fields: Vec<u8> =
        fields.iter().flat_map(|field| [field.as_bytes(), b"\0"].concat()).collect();
    message(tag, &[&fields[..], b"\0"].concat())
}

const ASKING_FOR_3_2: &str = "&max_protocol_version=3.2";

fn asking_for_3_2() -> Login {
    client::login().protocol(ProtocolVersion::V3_2)
}

#[test]
fn t14_a_server_that_supports_only_3_0_is_accepted_unless_3_2_is_required() {
    let bytes = [hex(ONLY_3_0), Script::PRELUDE.to_vec()].concat();
    let script = Script::new().expect_startup().send(&bytes).expect_message(b'Q');
    let script = script.send(Script::FACTS).expect_message(b'Q').send(Script::ACK);
    let tail = bytes.len() + Script::FACTS.len() + Script::ACK.len();
    let attack = Attack::new(script.close(), tail, LISTEN).asking(asking_for_3_2, ASKING_FOR_3_2);
    attack.run(&["connect", "listen", "over: Connect | closed the connection"], &[]);

    let script = Script::new().expect_startup().send_hex(ONLY_3_0).wait_for_eof();
    let must = || asking_for_3_2().min_protocol(ProtocolVersion::V3_2);
    let expect =
        "connect: Unsupported | the server supports protocol 3.0, and the lowest accepted is 3.2";
    Attack::new(script, 13, LISTEN)
        .asking(must, "&min_protocol_version=3.2&max_protocol_version=3.2")
        .run(&[expect], &[]);
    // A client that did not ask for a newer version must not get this answer.
    at_login(&hex(ONLY_3_0), "Protocol | NegotiateProtocolVersion changes nothing (3.0)");
}

#[test]
fn t16_a_refusal_before_authentication_keeps_its_sqlstate() {
    for (code, kind) in
        [("53300", "Server"), ("3D000", "Server"), ("28000", "Auth"), ("57P03", "Server")]
    {
        let refusal = diagnostic(b'E', &["SFATAL", "VFATAL", &format!("C{code}"), "Mno"]);
        let expect = format!("{kind} | FATAL: no (SQLSTATE {code})");
        at_login(&refusal, &expect);
        after_authentication(&refusal, &expect);
    }
}

#[test]
fn t17_the_error_of_a_server_that_cannot_fork_is_reported() {
    let text = "could not fork new process for connection: Resource temporarily unavailable";
    at_login(format!("E{text}\n\0").as_bytes(), &format!("Connect | {text}"));
}

#[test]
fn t18_a_key_is_accepted_once_before_ready_for_query_and_may_be_missing() {
    // Over sockets a client without a key opens another session to prove delivery.
    let none = Script::new().expect_startup().send(join(&[OK, UTF8, READY])).expect_message(b'Q');
    let none = none.send(Script::FACTS).expect_hex("58 00000004").wait_for_eof();
    Attack::new(none, 0, &[Action::Close]).login(client::login).run(&["connect", "close"], &[]);
    when_idle(&hex(KEY), "Protocol | BackendKeyData does not belong to an idle session");
    let twice = join(&[OK, UTF8, KEY, KEY]);
    at_login(&twice, "Protocol | BackendKeyData does not belong to the startup");
}

#[test]
fn t19_a_key_of_another_length_is_refused() {
    let key = |bytes: usize| message(b'K', &[&[0, 0, 0, 7][..], &vec![0xab; bytes]].concat());
    after_authentication(&key(0), "Protocol | length word 8 is below 12 in BackendKeyData");
    after_authentication(&key(32), "Protocol | a key of 32 bytes, expected 4 in protocol 3.0");
    for (bytes, expect) in [
        (key(0), "connect: Protocol | length word 8 is below 12 in BackendKeyData"),
        (key(257), "connect: Protocol | length word 265 is above 264 in BackendKeyData"),
    ] {
        let script = Script::new().expect_startup().send_hex(OK).send(&bytes).wait_for_eof();
        let attack = Attack::new(script, bytes.len(), LISTEN);
        attack.asking(asking_for_3_2, ASKING_FOR_3_2).run(&[expect], &[]);
    }
}

#[test]
fn t23_a_session_with_another_encoding_is_refused_before_a_name_is_quoted() {
    let sql_ascii = "53 0000001e 636c69656e745f656e636f64696e6700 53514c5f415343494900";
    after_authentication(&join(&[sql_ascii, READY]), "Unsupported | client_encoding is SQL_ASCII");
    after_authentication(&hex(READY), "Unsupported | client_encoding was not reported");
    // Also V6: an encoding in which a quote can be part of a character, at any later moment.
    let sjis = message(b'S', b"client_encoding\0SJIS\0");
    when_idle(&sjis, "Unsupported | client_encoding is SJIS, expected UTF8 (hint: a pooler");
}

#[test]
fn t24_a_nul_or_too_much_in_a_parameter_is_refused_and_not_a_byte_is_sent() {
    runtime().block_on(async {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        server.set_nonblocking(true).unwrap();
        let base = || {
            let port = server.local_addr().unwrap().port();
            Config::new().host("127.0.0.1").port(port).user("alice")
        };
        let long = "x".repeat(10_000);
        for config in [
            base().user("alice\0"),
            base().dbname("db\0user\0admin"),
            base().application_name("x\0user\0admin"),
            base().options("\0"),
            base().password("pl4nted\0s3cret"),
            // V8: longer than a startup packet may be.
            base().options(&*long),
        ] {
            let errors = [
                soon("connect", Connection::connect(&config)).await.unwrap_err(),
                soon("connect", Listener::connect(&config)).await.unwrap_err(),
            ];
            for error in errors {
                check_text(&error);
                assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            }
        }
        // If a client has connected at all, it has sent nothing.
        while let Ok((mut caller, _)) = server.accept() {
            let mut sent = Vec::new();
            caller.set_nonblocking(false).unwrap();
            caller.read_to_end(&mut sent).unwrap();
            assert_eq!(sent, b"");
        }
    });
}

#[test]
fn t26_an_endless_startup_ends_the_attempt() {
    let notice = message(b'N', &[b"SNOTICE\0M", &[b'x'; 84][..], b"\0\0"].concat());
    let status = message(b'S', &[b"a\0", &[b'x'; 92][..], b"\0"].concat());
    let expect =
        "connect: Protocol | more than 1,000 messages or 1 MiB before the first ReadyForQuery";
    for flood in [&notice, &status] {
        assert!((100..=101).contains(&flood.len()), "{}", flood.len());
        let script = Script::new().expect_startup().send_hex(OK).flood(flood);
        Attack::new(script, 0, LISTEN).run(&[expect], &[]);
        // The thousandth message is read, and the one after it is not.
        let script = Script::new().expect_startup().send_hex(OK).send(flood.repeat(999));
        Attack::new(script.send(flood).wait_for_eof(), flood.len(), LISTEN).run(&[expect], &[]);
    }
    harmless_at_login(&[hex(OK), status.repeat(990), join(&[UTF8, KEY, READY])].concat());
    let script = Script::new().expect_startup().flood(&notice);
    Attack::new(script, 0, LISTEN).run(&[expect], &[]);
}

#[cfg(unix)]
#[test]
fn t27_a_socket_path_that_is_too_long_is_an_error_with_its_path() {
    runtime().block_on(async {
        let config =
            Config::new().host(format!("/tmp/{}", "x".repeat(120))).port(5432).user("alice");
        let errors = [
            soon("connect", Connection::connect(&config)).await.unwrap_err(),
            soon("connect", Listener::connect(&config)).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
            assert!(format!("{error:#}").contains("xxx/.s.PGSQL.5432"), "{error}");
        }
    });
}

/// That the warning is counted and kept is tested in `session::tests::startup`.
#[test]
fn t28_a_warning_during_the_login_does_not_fail_it() {
    let warning =
        diagnostic(b'N', &["SWARNING", "VWARNING", "C01000", "Myour password expires soon"]);
    harmless_at_login(&[hex(OK), warning.clone(), join(&[UTF8, KEY, READY])].concat());
    // PgBouncer, while a client waits for a server: before AuthenticationOk.
    harmless_at_login(&[warning, join(&[OK, UTF8, KEY, READY])].concat());
}

/// The startup packet that all of these scripts answer is the one of the manual.
#[test]
fn the_startup_packet_asks_for_utf8_and_for_version_3_0() {
    let expect = b"\0\x03\0\0user\0alice\0database\0db\0";
    let check = move |received: &[bytes::Bytes]| {
        assert!(received[0][4..].starts_with(expect), "{}", received[0].escape_ascii());
        let asks = b"client_encoding\0UTF8\0";
        assert!(received[0].windows(asks.len()).any(|part| part == asks));
        Script::PRELUDE.to_vec()
    };
    let script = Script::new().expect_startup().send_with(check).expect_message(b'Q');
    let script = script.send(Script::FACTS).expect_hex("58 00000004");
    let attack = Attack::new(script.wait_for_eof(), 0, &[Action::Close]);
    runtime().block_on(async {
        let (connection, listener) = attack.over_sockets(Delivery::Whole).await;
        assert_eq!(connection, listener);
        assert_eq!(connection.lines, ["connect", "close"]);
    });
}

/// A pooler may assign a server session that listens to channels of another client.
#[test]
fn a_notification_before_ready_for_query_is_delivered_like_any_later_one() {
    let [ok, rest] = [&Script::PRELUDE[..9], &Script::PRELUDE[9..]];
    let early = [ok, Script::A1, rest, Script::A1].concat();
    let facts = [Script::A1, Script::FACTS, Script::A1].concat();
    let script = Script::new().expect_startup().send(&early).expect_message(b'Q').send(&facts);
    let script = script.expect_message(b'Q').send(Script::A1).send(Script::ACK);
    let script = script.expect_hex("58 00000004").wait_for_eof();
    let actions = &[Action::Listen(&["b"]), Action::Receive(5), Action::Close];
    let tail = script.sent_bytes();
    Attack::new(script, tail, actions).run(&["connect", "listen", "close"], &["1 a b"; 5]);
}

/// The rest of a long parameter is skipped when it arrives. Notifications that arrived earlier must not be put before that
/// rest.
#[test]
fn an_early_notification_is_not_skipped_with_a_long_message_behind_it() {
    // Makes the receive buffer so large that one read returns the answer and the beginning of the parameter.
    let notice = message(b'N', &[&b"SNOTICE\0M"[..], &[b'x'; 60_000], b"\0\0"].concat());
    let early = [&Script::PRELUDE[..9], &notice, Script::A1, &Script::PRELUDE[9..]].concat();
    let path = message(b'S', &[&b"search_path\0"[..], &[b'x'; 60_000], b"\0"].concat());
    let rest = [&path[..], Script::A1].concat();
    let script = Script::new().expect_startup().send(&early).expect_message(b'Q');
    let script = script.send([Script::FACTS, &rest].concat());
    let script = script.expect_hex("58 00000004").wait_for_eof();
    let attack = Attack::new(script, rest.len(), &[Action::Receive(2), Action::Close]);
    attack.run(&["connect", "close"], &["1 a b"; 2]);
}

#[test]
fn an_early_notification_has_the_time_of_its_arrival() {
    let begin = std::time::SystemTime::now();
    let early = [&Script::PRELUDE[..9], Script::A1, &Script::PRELUDE[9..]].concat();
    let script = Script::new().expect_startup().send(&early).expect_message(b'Q');
    let script = script.send(Script::FACTS).expect_hex("58 00000004").wait_for_eof();
    runtime().block_on(async {
        let (address, task) = script.clone().serve(Delivery::Whole).await.unwrap();
        let mut listener = Listener::connect(&*url(address)).await.unwrap();
        let event = soon("event", listener.recv()).await.unwrap();
        let pgbell::Event::Notification(n) = event else { panic!("{event:?}") };
        assert!(n.received_at() >= begin, "{:?}", n.received_at());
        listener.close().await;
        soon("script", task).await.unwrap().unwrap();
        let (address, task) = script.serve(Delivery::Whole).await.unwrap();
        let mut connection = Connection::connect(&*url(address)).await.unwrap();
        let batch = soon("batch", connection.recv_batch()).await.unwrap();
        assert!(batch.iter().all(|n| n.received_at() >= begin) && batch.len() == 1);
        connection.close().await;
        soon("script", task).await.unwrap().unwrap();
    });
}

/// They are kept in memory until the session is ready, and the amount is limited.
#[test]
fn endless_notifications_before_ready_for_query_end_the_attempt() {
    let flood = Script::A1.repeat(2_000);
    let script = Script::new().expect_startup().send(&Script::PRELUDE[..9]).flood(&flood);
    runtime().block_on(async {
        let attack = Attack::new(script, 0, &[]);
        let (connection, listener) = attack.over_sockets(Delivery::Whole).await;
        for outcome in [connection, listener] {
            let [line] = &outcome.lines[..] else { panic!("{outcome:#?}") };
            assert!(line.contains("more than 1 MiB of notifications"), "{line}");
        }
    });
}
