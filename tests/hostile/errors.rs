//! Faults E of the catalogue in `tests/README.md`: errors and notices.

use pgbell::testing::{Delivery, Script};

use super::attack::{Attack, LISTEN, at_login, hex, message, runtime, to_listen, when_idle};
use super::client::{self, Action, soon, url};

fn diagnostic(tag: u8, fields: &[&str]) -> Vec<u8> {
    let fields: Vec<u8> =
        fields.iter().flat_map(|field| [field.as_bytes(), b"\0"].concat()).collect();
    message(tag, &[&fields[..], b"\0"].concat())
}

/// The socket stays open: the client closes it.
#[test]
fn e1_a_fatal_error_ends_the_session_although_the_socket_stays_open() {
    let fatal = diagnostic(b'E', &["SFATAL", "VFATAL", "C57P01", "Mterminating connection"]);
    let expect =
        "Server | the server ended the session: FATAL: terminating connection (SQLSTATE 57P01)";
    when_idle(&fatal, expect);
    to_listen(&fatal, expect);
}

#[test]
fn e2_a_warning_before_the_end_of_the_stream_is_the_reason() {
    for code in ["57P01", "57P02"] {
        let warning = diagnostic(b'N', &["SWARNING", "VWARNING", &format!("C{code}"), "Mcrash"]);
        let script = Script::listening().send(&warning).close();
        let expect = format!("over: Server | WARNING: crash (SQLSTATE {code})");
        Attack::new(script, warning.len(), LISTEN).run(&["connect", "listen", &expect], &[]);
    }
}

/// Also V24: a missing SQLSTATE must not cause a panic.
#[test]
fn e4_an_error_without_fields_is_accepted_and_one_without_a_body_is_refused() {
    when_idle(&hex("45 00000005 00"), "Server | the server ended the session: error: ");
    when_idle(&hex("45 00000004"), "Protocol | length word 4 is below 5 in ErrorResponse");
    at_login(&hex("45 00000005 00"), "Server | the server refused the connection: error: ");
}

/// Also V4.
#[test]
fn e5_an_error_that_is_cut_off_is_refused_and_not_read_beyond() {
    for (bytes, expect) in [
        ("45 0000000d 53 4552524f5200 4d 78", "field value is not ended by a NUL"),
        ("45 00000005 53", "field value is not ended by a NUL"),
        ("45 00000006 53 00", "field code needs 1 bytes"),
        ("4e 00000006 0000", "expected the end and found 1 more bytes"),
    ] {
        when_idle(&hex(bytes), &format!("Protocol | {expect}"));
        at_login(&hex(bytes), &format!("Protocol | {expect}"));
    }
}

/// Also V31: a server's text may contain anything. `check_text` checks every error of the suite.
#[test]
fn e7_hostile_text_is_shown_escaped_and_kept_as_it_came() {
    let text = b"a\x1b[2J\r\n\xe2\x80\xae\xff\xe9%s%n$(reboot)";
    let refusal =
        message(b'E', &[&b"SFATAL\0C28000\0M"[..], text, b"\0Hask\x1b]0;you\x07\0\0"].concat());
    let shown = "FATAL: a\\u{1b}[2J\\r\\n\\u{202e}\u{fffd}\u{fffd}%s%n$(reboot) (SQLSTATE 28000)";
    at_login(&refusal, &format!("Auth | {shown} (hint: ask\\u{{1b}}]0;you\\u{{7}})"));
    runtime().block_on(async {
        let script = Script::new().expect_startup().send(&refusal).wait_for_eof();
        let (address, task) = script.serve(Delivery::Whole).await.unwrap();
        let error = soon("connect", pgbell::Connection::connect(&*url(address))).await.unwrap_err();
        assert_eq!(error.db_error().unwrap().field(b'M').unwrap(), text);
        task.await.unwrap().unwrap();
    });
    // LATIN1, before an encoding is agreed, in the form of protocol 2.
    at_login(b"Eacc\xe8s refus\xe9\x1b[2J\n\0", "Connect | acc\u{fffd}s refus\u{fffd}\\u{1b}[2J");
}

#[test]
fn e8_a_million_notices_are_counted_and_not_kept() {
    let notice = diagnostic(b'N', &["SNOTICE", "C00000", "Mover and over again"]);
    let flood = notice.repeat(1_000);
    let mut script = Script::listening();
    for _ in 0..1_000 {
        script = script.send(&flood);
    }
    let script = script.send(Script::A1).expect_hex("58 00000004").wait_for_eof();
    let actions: &[Action] = &[Action::Listen(&["a"]), Action::Receive(1), Action::Close];
    let attack = Attack::new(script, 0, actions);
    let memory = client::session(client::login(), attack.script(), Delivery::Whole, actions);
    assert_eq!(memory.received, ["1 a b"]);
    runtime().block_on(async {
        let (connection, listener) = attack.over_sockets(Delivery::Whole).await;
        assert_eq!(connection, listener);
        assert_eq!(
            (connection.lines.len(), &connection.received[..]),
            (3, &["1 a b".to_owned()][..])
        );
    });
}

#[test]
fn e10_an_idle_timeout_of_the_server_names_the_setting() {
    let fatal = diagnostic(b'E', &["SFATAL", "VFATAL", "C57P05", "Mterminating connection"]);
    when_idle(&fatal, "Server | (SQLSTATE 57P05) (hint: set idle_session_timeout = 0");
}

#[test]
fn e11_a_translated_severity_is_judged_by_the_sqlstate() {
    let refused = diagnostic(b'E', &["SFEHLER", "C42501", "Mnein"]);
    let answer = [refused, hex("5a 00000005 49")].concat();
    let script = Script::ready().expect_message(b'Q').send(&answer).expect_hex("58 00000004");
    let attack =
        Attack::new(script.wait_for_eof(), answer.len(), &[Action::Listen(&["a"]), Action::Close]);
    attack.run(&["connect", "listen: Server | FEHLER: nein (SQLSTATE 42501)", "close"], &[]);
    let ended = diagnostic(b'E', &["SFATALER FEHLER", "C57P01", "Mende"]);
    when_idle(&ended, "Server | FATALER FEHLER: ende (SQLSTATE 57P01)");
}

#[test]
fn e12_panic_and_unknown_severities_are_fatal() {
    for (severity, code) in [("PANIC", "XX000"), ("XYZ", "42501")] {
        let fields =
            [format!("S{severity}"), format!("V{severity}"), format!("C{code}"), "Mno".into()];
        let error = diagnostic(b'E', &fields.each_ref().map(String::as_str));
        when_idle(&error, &format!("Server | {severity}: no (SQLSTATE {code})"));
        to_listen(&error, &format!("Server | {severity}: no (SQLSTATE {code})"));
    }
}
