//! What is said before TLS is not the server's word: answers to the request for it.
//!
//! Over sockets, against every client, in every kind of pieces. What comes behind a hello is for the tests of the
//! sockets that encrypt.

use std::net::SocketAddr;

use pgbell::testing::{Delivery, Script};
use pgbell::{Connection, Error, ErrorKind, Listener, Notifier};

use super::attack::{message, no_task_is_left, runtime};
use super::client::{check_text, soon, url};

const REQUEST: &str = "00000008 04d2162f";

/// A server that says this when it is asked for TLS. Whatever more it is sent but the end is a mismatch.
fn answer(bytes: &[u8]) -> Script {
    Script::new().expect_hex(REQUEST).send(bytes).wait_for_eof()
}

/// Lets everybody in, and is left at once.
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

/// Plays the scripts to one client after the other connection. Returns what became of each client.
fn play(parameters: &str, scripts: impl Fn() -> Vec<Script>) -> Vec<Result<(), Error>> {
    let mut outcomes = Vec::new();
    for client in ["connection", "listener", "notifier"] {
        let hostile = scripts().first().map_or(0, Script::sent_bytes);
        for delivery in Delivery::all(hostile) {
            runtime().block_on(async {
                let served = Script::serve_in_turn(scripts(), delivery).await;
                let (address, task) = served.unwrap();
                let outcome = soon("connect", connect(client, &with(address, parameters))).await;
                // Every connection was opened, none was opened beside, and nothing else was sent.
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

/// With TLS that is only preferred it is one new connection in the clear, and no text of the first.
#[test]
fn t1_where_tls_is_preferred_an_error_leads_to_one_connection_in_the_clear() {
    let outcomes = play("sslmode=prefer", || vec![answer(b"ESECRET-LOOKING TEXT\0"), clear()]);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

/// In one segment; or the rest behind our hello, or just before it: then it is no TLS.
#[test]
fn t2_bytes_behind_the_answer_are_never_taken_for_the_servers() {
    for behind in [&b"R\0\0\0\x08\0\0\0\0"[..], Script::PRELUDE, b"S", b"N", b"\x16\x03\x03"] {
        let bytes = [b"S", behind].concat();
        let script = Script::new().expect_hex(REQUEST).send(&bytes).close();
        for outcome in play("sslmode=require", || vec![script.clone()]) {
            let error = outcome.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Tls | ErrorKind::Connect), "{error}");
        }
        // What stands behind a no changes nothing about it.
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

/// The script sees the request, eight bytes, and then the end.
#[test]
fn t3_a_no_ends_what_insists_on_tls_and_nothing_more_is_sent() {
    let certificates = pgbell_testkit::Certificates::new().unwrap();
    let root = certificates.authority("root").unwrap();
    let root = root.certificate().path().to_str().unwrap().replace('/', "%2F");
    for mode in ["require", "verify-ca", "verify-full"] {
        let parameters = format!("sslmode={mode}&sslrootcert={root}");
        let words = format!("sslmode={mode} asks for TLS");
        refused(&parameters, &answer(b"N"), ErrorKind::Tls, &words);
    }
}

/// What stands behind a no is the answer to the startup packet, which follows: in one segment or in two, at every byte.
#[test]
fn t4_bytes_behind_a_no_mean_the_same_however_they_are_cut() {
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

/// All that a server says from the first byte to the first answer, cut at each byte: in the clear, and where TLS is
/// refused.
#[test]
fn a_login_means_the_same_however_it_is_cut() {
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
fn t5_another_byte_is_no_answer() {
    for byte in [0, b'G', b's', b'\n', b'R', 0xff] {
        refused("sslmode=require", &answer(&[byte]), ErrorKind::Tls, &format!("0x{byte:02x}"));
    }
}

#[test]
fn t6_a_yes_and_then_the_protocol_in_the_clear_is_refused() {
    // A record of the handshake; the rest of the hello is left where it is.
    let lie = Script::new().expect_hex(REQUEST).send(b"S").expect_hex("16 0301");
    let lie = lie.send(Script::PRELUDE).close();
    let mut told = 0;
    for outcome in play("sslmode=require", || vec![lie.clone()]) {
        let error = outcome.unwrap_err();
        // The end of the connection may overtake what was said.
        assert!(matches!(error.kind(), ErrorKind::Tls | ErrorKind::Connect), "{error}");
        told += u32::from(format!("{error:#}").contains("not TLS"));
    }
    assert!(told > 0, "never told what it is");
    let outcomes = play("sslmode=prefer", || vec![lie.clone(), clear()]);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

/// TLS is asked for once on a connection: no answer makes the client ask again.
#[test]
fn v11_a_server_that_always_says_no_is_asked_once() {
    let no = Script::new().expect_hex(REQUEST).send(b"N").expect_startup().send(b"N").close();
    for outcome in play("sslmode=prefer", || vec![no.clone()]) {
        let error = outcome.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Connect), "{error}");
    }
}
