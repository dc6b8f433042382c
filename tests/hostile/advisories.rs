//! Section 2 of the catalogue: published vulnerabilities of other clients, unless an id of section 3 covers them.

use pgbell::testing::{Delivery, Script};
use pgbell::{Connection, ErrorKind, Listener};

use super::attack::{message, runtime};
use super::client::{check_text, soon, url};

/// CVE-2018-10915: state that one server set must not remain in the session with the next server.
#[test]
fn v1_no_state_of_a_failed_attempt_remains_in_the_next() {
    let sjis = message(b'S', b"client_encoding\0SJIS\0");
    let hostile = || {
        let begun = Script::new().expect_startup().send_hex("52 00000008 00000000").send(&sjis);
        begun.send(message(b'S', b"server_version\x001.0\0")).close()
    };
    // It reports neither its version nor any encoding but UTF8.
    let plain = || {
        let encoding = &Script::PRELUDE[9..35];
        let ready = Script::new().expect_startup().send_hex("52 00000008 00000000").send(encoding);
        let ready = ready.send_hex("4b 0000000c 00000007 00000001 5a 00000005 49");
        let ready = ready.expect_message(b'Q').send(Script::FACTS);
        ready.expect_hex("58 00000004").wait_for_eof()
    };
    runtime().block_on(async {
        let scripts = [hostile(), plain(), hostile(), plain()];
        let (address, task) = Script::serve_in_turn(scripts, Delivery::Whole).await.unwrap();
        let config: pgbell::Config = url(address).parse().unwrap();
        let error = soon("connect", Connection::connect(&config)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
        let connection = soon("connect", Connection::connect(&config)).await.unwrap();
        assert_eq!(connection.parameter("client_encoding"), Some("UTF8"));
        assert_eq!(connection.parameter("server_version"), None);
        soon("close", connection.close()).await;
        let error = soon("connect", Listener::connect(&config)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
        let listener = soon("connect", Listener::connect(&config)).await.unwrap();
        assert_eq!(listener.process_id(), Some(7));
        soon("close", listener.close()).await;
        soon("scripts", task).await.unwrap().unwrap();
    });
}

/// CVE-2025-4207: a character that is cut off by the end of the payload causes no read beyond the payload.
#[test]
fn v7_a_cut_off_character_ends_the_connection_with_the_cause_and_a_hint() {
    let cut = message(b'A', b"\0\0\0\x01a\0caf\xe2\x82\0");
    let script = Script::listening().send(&cut).wait_for_eof();
    runtime().block_on(async {
        for delivery in Delivery::all(script.sent_bytes()) {
            let (address, task) = script.clone().serve(delivery).await.unwrap();
            let mut connection = Connection::connect(&*url(address)).await.unwrap();
            connection.listen("a").await.unwrap();
            let error = soon("batch", connection.recv_batch()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
            let text = format!("{error:#}");
            assert!(text.contains("payload is not UTF-8 from byte 3 on"), "{text}");
            assert!(error.hint().unwrap().contains("client_encoding"), "{error:?}");
            drop(connection);
            soon("script", task).await.unwrap().unwrap();
        }
    });
}

/// CVE-2024-32655, CVE-2024-27304, RUSTSEC-2024-0363, RUSTSEC-2024-0365: a message length that overflows 32 bits would let the
/// server read the rest of the text as further messages. The query is refused before any byte is written.
#[cfg(target_pointer_width = "64")]
#[test]
fn v12_a_query_whose_length_overflows_is_refused_and_not_sent() {
    runtime().block_on(async {
        let script = Script::ready().expect_hex("58 00000004").wait_for_eof();
        let (address, task) = script.serve(Delivery::Whole).await.unwrap();
        let mut connection = Connection::connect(&*url(address)).await.unwrap();
        for bytes in [(1_usize << 30) - 1, 1 << 31, (1 << 32) - 5, (1 << 32) + 16] {
            // Pages of zeros that are never written take no memory.
            let sql = String::from_utf8(vec![0; bytes]).unwrap();
            let error = soon("query", connection.simple_query(&sql)).await.unwrap_err();
            check_text(&error);
            assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
            assert!(format!("{error:#}").contains("Query would take"), "{error}");
            let error = soon("notify", connection.notify("a", &sql)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
        }
        soon("close", connection.close()).await;
        soon("script", task).await.unwrap().unwrap();
    });
}
