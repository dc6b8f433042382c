//! Answers to the request for TLS: what arrives before TLS is not authenticated, and must not be used as the server's answer.
//! The tests run over sockets, against every client, split in every way. The tests of `net::tls` cover what follows a
//! ClientHello.

use std::net::SocketAddr;

use pgbell::testing::{Delivery, Script};
use pgbell::{Connection, Error, ErrorKind, Listener, Notifier};

use super::attack::{message, no_task_is_left, runtime};
use super::client::{check_text, soon, url};

const REQUEST: &str = "00000008 04d2162f";

/// A server that answers the request for TLS with this. If the client sends anything but the end, it is a mismatch.
fn answer(bytes: &[u8]) -> Script {
    Script::new().expect_hex(REQUEST).send(bytes).wait_for_eof()
}

/// Logs every client in, and then waits for its disconnect.
fn clear() -> Script {
    Script::let_in()
        .expect_message(b'Q')
        .send(Script::FACTS)
        .expect_hex("58 00000004")
        .wait_for_eof()
}

fn with(address: SocketAddr, parameters: &str) -> String {
    url(address).replace("sslmode=disable", parameters)
}

async fn connect(client: &str, url: &str) -> Result<(), Error> {
    match client {
        "connection" => Connection::connect(url).await?.close().await,
        "listener" => Listener::connect(url).await?.close().await,
        _ => Notifier::connect(url).await?.close().await,
    }
    Ok(())
}

/// Plays the scripts for the successive connections of one client. Returns the outcome of each client.
fn play(parameters: &str, scripts: impl Fn() -> Vec<Script>) -> Vec<Result<(), Error>> {
    let mut outcomes = Vec::new();
    for client in ["connection", "listener", "notifier"] {
        let hostile = scripts().first().map_or(0, Script::sent_bytes);
        for delivery in Delivery::all(hostile) {
            runtime().block_on(async {
                let served = Script::serve_in_turn(scripts(), delivery).await;
                let (address, task) = served.unwrap();
                let outcome = soon("connect", connect(client, &with(address, parameters))).await;
                // Every expected connection was opened and no further one, and nothing else was sent.
                let played = soon("script", task).await.unwrap();
                assert_eq!(played, Ok(()), "{client}, {delivery:?}: {outcome:?}");
                no_task_is_left().await;
                if let Err(error) = &outcome {
                    check_text(error);
                }
                outcomes.push(outcome);
            });
        }
    }
    outcomes
}

#[track_caller]
fn refused(parameters: &str, script: &Script, kind: ErrorKind, words: &str) {
    for outcome in play(parameters, || vec![script.clone()]) {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(format!("{error:#}").contains(words), "{error}");
        assert!(!format!("{error:#}").contains("SECRET"), "{error}");
    }
}

#[test]
fn t1_an_error_before_tls_is_not_shown() {
    for text in [
        &b"ESECRET-LOOKING TEXT\0"[..],
        &message(b'E', b"SFATAL\0VFATAL\0C28P01\0MSECRET-LOOKING TEXT\0\0"),
    ] {
        refused("sslmode=require", &answer(text), ErrorKind::Connect, "with an error");
    }
}

/// If TLS is only preferred, the client opens one new connection without TLS, and shows no text of the first.
#[test]
fn t1_where_tls_is_preferred_an_error_leads_to_one_connection_in_the_clear() {
    let outcomes = play("sslmode=prefer", || vec![answer(b"ESECRET-LOOKING TEXT\0"), clear()]);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

/// The bytes arrive in one segment, or behind our ClientHello, or just before it: then the answer is not valid TLS.
#[test]
fn t2_bytes_behind_the_answer_to_the_tls_request_are_refused() {
    for behind in [&b"R\0\0\0\x08\0\0\0\0"[..], Script::PRELUDE, b"S", b"N", b"\x16\x03\x03"] {
        let bytes = [b"S", behind].concat();
        let script = Script::new().expect_hex(REQUEST).send(&bytes).close();
        for outcome in play("sslmode=require", || vec![script.clone()]) {
            let error = outcome.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Tls | ErrorKind::Connect), "{error}");
        }
        // Bytes behind a refusal of TLS change nothing.
        let bytes = [b"N", behind].concat();
        let script = Script::new().expect_hex(REQUEST).send(&bytes).wait_for_eof();
        runtime().block_on(async {
            let (address, task) = script.serve(Delivery::Whole).await.unwrap();
            let url = with(address, "sslmode=require");
            let error = soon("connect", Connection::connect(&*url)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
            soon("script", task).await.unwrap().unwrap();
        });
    }
}

/// The script receives the request, eight bytes, and then the end.
#[test]
fn t3_a_refusal_of_tls_ends_the_attempt_if_tls_is_required_and_nothing_more_is_sent() {
    let certificates = pgbell_testkit::Certificates::new().unwrap();
    let root = certificates.authority("root").unwrap();
    let root = root.certificate().path().to_str().unwrap().replace('/', "%2F");
    for mode in ["require", "verify-ca", "verify-full"] {
        let parameters = format!("sslmode={mode}&sslrootcert={root}");
        let words = format!("sslmode={mode} asks for TLS");
        refused(&parameters, &answer(b"N"), ErrorKind::Tls, &words);
    }
}

/// Bytes behind a refusal of TLS answer the startup packet, which follows: in one segment or in two, split at every byte.
#[test]
fn t4_bytes_behind_a_refusal_of_tls_mean_the_same_however_they_are_split() {
    let fatal = message(b'E', b"SFATAL\0VFATAL\0C53300\0Mtoo many\0\0");
    let early = [&Script::PRELUDE[..9], Script::A1, &Script::PRELUDE[9..], Script::A1].concat();
    for (behind, expect) in [
        (Script::PRELUDE, Ok(())),
        (&early, Ok(())),
        (&fatal, Err(ErrorKind::Server)),
        (b"HTTP/1.1 400 Bad Request\r\n", Err(ErrorKind::Protocol)),
        (b"\x16\x03\x03\0\x01\0", Err(ErrorKind::Protocol)),
    ] {
        let no = Script::new().expect_hex(REQUEST).send([b"N", behind].concat()).expect_startup();
        let script = match expect {
            Err(_) => no.wait_for_eof(),
            Ok(()) => {
                let asked = no.expect_message(b'Q').send(Script::FACTS);
                asked.expect_hex("58 00000004").wait_for_eof()
            }
        };
        for outcome in play("sslmode=prefer", || vec![script.clone()]) {
            let found = outcome.as_ref().copied().map_err(Error::kind);
            assert_eq!(found, expect, "{}: {outcome:?}", behind.escape_ascii());
        }
    }
}

/// Everything that a server sends from the first byte to the first answer, split at each byte: without TLS, and after a refusal
/// of TLS.
#[test]
fn a_login_has_the_same_outcome_however_it_is_split() {
    let login = [Script::PRELUDE, Script::A1].concat();
    let facts = [Script::A1, Script::FACTS].concat();
    let script = |mode: &str| {
        let script = match mode {
            "disable" => Script::new(),
            _ => Script::new().expect_hex(REQUEST).send(b"N"),
        };
        let script = script.expect_startup().send(&login).expect_message(b'Q').send(&facts);
        script.expect_hex("58 00000004").wait_for_eof()
    };
    for mode in ["disable", "prefer"] {
        let outcomes = play(&format!("sslmode={mode}"), || vec![script(mode)]);
        assert!(outcomes.iter().all(Result::is_ok), "{mode}: {outcomes:?}");
    }
}

#[test]
fn t5_any_other_byte_is_refused() {
    for byte in [0, b'G', b's', b'\n', b'R', 0xff] {
        refused("sslmode=require", &answer(&[byte]), ErrorKind::Tls, &format!("0x{byte:02x}"));
    }
}

#[test]
fn t6_an_acceptance_of_tls_and_then_messages_in_the_clear_are_refused() {
    // A record of the handshake; the rest of the ClientHello is not read.
    let answer_without_tls = Script::new().expect_hex(REQUEST).send(b"S").expect_hex("16 0301");
    let answer_without_tls = answer_without_tls.send(Script::PRELUDE).close();
    let mut named = 0;
    for outcome in play("sslmode=require", || vec![answer_without_tls.clone()]) {
        let error = outcome.unwrap_err();
        // The end of the connection may arrive before the answer.
        assert!(matches!(error.kind(), ErrorKind::Tls | ErrorKind::Connect), "{error}");
        named += u32::from(format!("{error:#}").contains("not TLS"));
    }
    assert!(named > 0, "the error never names the cause");
    let outcomes = play("sslmode=prefer", || vec![answer_without_tls.clone(), clear()]);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

/// A client asks for TLS once on a connection: no answer makes it ask again.
#[test]
fn v11_a_server_that_always_refuses_tls_is_asked_once() {
    let no = Script::new().expect_hex(REQUEST).send(b"N").expect_startup().send(b"N").close();
    for outcome in play("sslmode=prefer", || vec![no.clone()]) {
        let error = outcome.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Connect), "{error}");
    }
}
