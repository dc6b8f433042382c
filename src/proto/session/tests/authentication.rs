//! The login of a session.

use super::*;
use crate::proto::auth::{AuthMethod, ScramServer, ScramVerdict, ScramVerifier};

const SASL: &str = "52 00000017 0000000a 534352414d2d5348412d32353600 00";
const SASL_PLUS: &str = "52 0000002a 0000000a 534352414d2d5348412d3235362d504c555300 \
                         534352414d2d5348412d32353600 00";
/// The client's part of the nonce: 18 bytes of value 7 in base64.
const NONCE: &str = "BwcHBwcHBwcHBwcHBwcHBwcH";

fn authentication(code: u32, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes()[..], data].concat())
}

fn server_first(text: &str) -> Vec<u8> {
    authentication(11, text.as_bytes())
}

/// Returns a session after the server's first message, which asks for one iteration.
fn answered() -> (Scene, ScramServer) {
    let verifier = ScramVerifier::from_password(&Password::new(PASSWORD), b"salt", 1).unwrap();
    let mut server = ScramServer::new(verifier, ScramNonce::new([9; 18]));
    let first = server.handle_client_first(format!("n,,n=,r={NONCE}").as_bytes()).unwrap();
    let before = [hex(SASL), authentication(11, &first)].concat();
    (Scene { before, ..Scene::with_password() }, server)
}

/// Returns the last message of a server that knows the password.
fn server_final() -> Vec<u8> {
    let (scene, mut server) = answered();
    let sent = scene.begin().sent_messages();
    let [_startup, first, last] = &sent[..] else { panic!("{} messages", sent.len()) };
    let mechanism = [b"SCRAM-SHA-256\0", &hex("00000020")[..]].concat();
    assert_eq!(first[5..], [&mechanism[..], b"n,,n=,r=", NONCE.as_bytes()].concat());
    match server.handle_client_final(&last[5..]).unwrap() {
        ScramVerdict::Accepted(text) => text,
        ScramVerdict::Refused(text) => panic!("{}", text.escape_ascii()),
    }
}

#[test]
fn a_whole_scram_exchange_ends_in_ready() {
    let (scene, _) = answered();
    let last = authentication(12, &server_final());
    let rest = [last, join(&PRELUDE)].concat();
    check_bytes(&scene, &rest, &["ready"]);
    let mut play = scene.begin();
    play.feed(&rest);
    assert_eq!(play.session.auth_method(), Some(AuthMethod::ScramSha256));
}

#[test]
fn a_login_without_a_request_is_reported_as_trust() {
    for scene in [Scene::new(), Scene::with_password()] {
        let mut play = scene.begin();
        play.feed(&join(&PRELUDE));
        assert_eq!(play.session.auth_method(), Some(AuthMethod::Trust));
        assert_eq!(play.sent_messages().len(), 1);
    }
}

/// A2: libpq accepts it.
#[test]
fn authentication_ok_inside_scram_is_never_accepted() {
    let first = format!("r={NONCE}x,s=c2FsdA==,i=4096");
    let sasl = Scene { before: hex(SASL), ..Scene::with_password() };
    let expect = "over: protocol violation: expected \
                  the next message of the SCRAM exchange, found AuthenticationOk";
    check(&sasl, &[AUTHENTICATION_OK], &[expect]);
    let (scene, _) = answered();
    check(&scene, &[AUTHENTICATION_OK], &[expect]);

    // During the computation, of which only the first steps are done.
    let both = [server_first(&first), hex(AUTHENTICATION_OK)].concat();
    let mut play = sasl.begin();
    play.input.extend_from_slice(&both);
    let error = play.session.handle_input(play.now, &mut play.input).unwrap_err();
    assert_eq!(
        error.to_string(),
        "protocol violation: Authentication does not belong to this \
         moment of the startup"
    );
    play.end(&error);
}

#[test]
fn a_computation_is_divided_into_steps_and_the_deadline_is_checked_in_between() {
    let mut play = Scene { before: hex(SASL), ..Scene::with_password() }.begin();
    play.input.extend(server_first(&format!("r={NONCE}x,s=c2FsdA==,i=4096")));
    let progress = play.session.handle_input(play.now, &mut play.input).unwrap();
    assert_eq!(progress, Progress::NeedMore);
    let mut steps = 0;
    while play.session.is_computing() {
        assert!(play.session.transmit().is_empty());
        play.session.compute().unwrap();
        steps += 1;
    }
    assert_eq!(steps, 5);
    assert!(!play.session.transmit().is_empty());

    let mut play = Scene { before: hex(SASL), ..Scene::with_password() }.begin();
    play.input.extend(server_first(&format!("r={NONCE}x,s=c2FsdA==,i=100000")));
    let _ = play.session.handle_input(play.now, &mut play.input).unwrap();
    play.session.compute().unwrap();
    let deadline = play.session.poll_timeout().unwrap();
    let error = play.session.handle_timeout(deadline).unwrap_err();
    let hint = "raise connect_timeout, or lower scram_iterations_max to refuse them at once";
    assert_eq!((error.kind(), error.hint()), (ErrorKind::Timeout, Some(hint)), "{error}");
    play.end(&error);
    assert!(play.session.compute().is_ok());
}

/// A4.
#[test]
fn a_server_that_does_not_know_the_password_is_refused() {
    let right = String::from_utf8(server_final()).unwrap();
    let wrong = format!("v={}", "A".repeat(43) + "=");
    let short = format!("v={}=", "A".repeat(41) + "A");
    let long = format!("v={}", "A".repeat(44));
    let (scene, _) = answered();
    for (text, kind) in [
        (wrong, ErrorKind::Auth),
        ("e=invalid-proof".to_owned(), ErrorKind::Auth),
        (short, ErrorKind::Protocol),
        (long, ErrorKind::Protocol),
        ("v=!!!".to_owned(), ErrorKind::Protocol),
        (format!("{right},x=1"), ErrorKind::Protocol),
        (format!("{right} "), ErrorKind::Protocol),
        (String::new(), ErrorKind::Protocol),
    ] {
        let bytes = [authentication(12, text.as_bytes()), join(&PRELUDE)].concat();
        let mut play = scene.begin();
        play.feed(&bytes);
        let error = play.eof();
        assert_eq!(error.kind(), kind, "{text}: {error}");
        check_bytes(&scene, &bytes, &[&format!("over: {error}")]);
    }
}

/// A5, A6, A11 in part: nothing is computed before the whole message is checked.
#[test]
fn after_a_wrong_first_message_of_the_server_nothing_is_computed() {
    let scene = Scene { before: hex(SASL), ..Scene::with_password() };
    let s = "s=c2FsdA==";
    let r = format!("r={NONCE}x");
    for (text, kind) in [
        (format!("r={NONCE},{s},i=1"), ErrorKind::Auth),
        (format!("r=x{NONCE},{s},i=1"), ErrorKind::Auth),
        (format!("r={NONCE}\x07,{s},i=1"), ErrorKind::Protocol),
        (format!("r=,{s},i=1"), ErrorKind::Protocol),
        (format!("{r},{s},i=0"), ErrorKind::Protocol),
        (format!("{r},{s},i=-1"), ErrorKind::Protocol),
        (format!("{r},{s},i=+4096"), ErrorKind::Protocol),
        (format!("{r},{s},i=4096x"), ErrorKind::Protocol),
        (format!("{r},{s},i=04096"), ErrorKind::Protocol),
        (format!("{r},{s},i=4294967297"), ErrorKind::Auth),
        (format!("{r},{s},i=2147483647"), ErrorKind::Auth),
        (format!("{r},{s},i=2000001"), ErrorKind::Auth),
        (format!("{r},{s}"), ErrorKind::Protocol),
        (format!("m=x,{r},{s},i=1"), ErrorKind::Protocol),
        (String::new(), ErrorKind::Protocol),
    ] {
        let mut play = scene.begin();
        play.input.extend(server_first(&text));
        let error = play.session.handle_input(play.now, &mut play.input).unwrap_err();
        assert_eq!(error.kind(), kind, "{text}: {error}");
        play.end(&error);
        check_bytes(&scene, &server_first(&text), &[&format!("over: {error}")]);
    }
    // A5d: long, but allowed.
    let long = format!("r={NONCE}{},{s},i=1", "x".repeat(1_900));
    let mut play = scene.begin();
    play.feed(&server_first(&long));
    assert!(!play.over, "{:?}", play.log);
}

/// A11.
#[test]
fn a_list_of_mechanisms_that_is_malformed_or_has_no_supported_one_is_refused() {
    let hundred = [b"SCRAM-SHA-1\0".repeat(100), b"\0".to_vec()].concat();
    for (bytes, kind) in [
        (authentication(10, b"SCRAM-SHA-256"), ErrorKind::Protocol),
        (authentication(10, b"SCRAM-SHA-256\0"), ErrorKind::Protocol),
        (authentication(10, b"\0"), ErrorKind::Protocol),
        (authentication(10, b""), ErrorKind::Protocol),
        (authentication(10, b"SCRAM-SHA-256\0\0x"), ErrorKind::Protocol),
        (authentication(10, b"SCRAM-SHA-1\0\0"), ErrorKind::Unsupported),
        (authentication(10, &hundred), ErrorKind::Protocol),
        (hex(SASL_PLUS), ErrorKind::Protocol),
    ] {
        let mut play = Scene::with_password().begin();
        play.feed(&bytes);
        let error = play.eof();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(play.sent_messages().len(), 1);
        check_bytes(&Scene::with_password(), &bytes, &[&format!("over: {error}")]);
    }
}

/// A14, A15.
#[test]
fn methods_that_are_not_supported_are_named() {
    let asks = "over: unsupported: server asks for ";
    for (code, name) in [
        (2, "Kerberos 5 (code 2), which is not supported"),
        (6, "SCM credentials (code 6), which is not supported"),
        (7, "GSSAPI (code 7), which is not supported"),
        (8, "GSSAPI (code 8), which is not supported"),
        (9, "SSPI (code 9), which is not supported"),
        (99, "authentication code 99, which is not known"),
        (u32::MAX, "authentication code -1, which is not known"),
    ] {
        let bytes = authentication(code, b"");
        check_bytes(
            &Scene::with_password(),
            &bytes,
            &[&format!("{asks}{name} (hint: pgbell supports…")],
        );
    }
    check(
        &Scene::with_password(),
        &["52 0000000a 00000005 0102"],
        &["over: protocol violation: …"],
    );
}

#[test]
fn a_password_is_sent_only_once_and_only_if_it_was_requested() {
    let clear = "52 00000008 00000003";
    let mut play = Scene::with_password().begin();
    play.feed(&hex(clear));
    let sent = play.sent_messages();
    assert_eq!(sent[1], message(b'p', format!("{PASSWORD}\0").as_bytes()));
    play.feed(&hex(clear));
    assert!(play.over);
    assert_eq!(play.sent_messages().len(), 2);

    let none = "over: authentication: server asks for a password (method password) and \
                none was given (hint: set password, PGPASSWORD or a password file)";
    check(&Scene::new(), &[clear], &[none]);
}

/// L1.
#[test]
fn no_debug_and_no_error_shows_the_password_or_a_value_computed_from_it() {
    let (scene, _) = answered();
    let mut seen = format!("{:?}", login_with_password());
    let md5 = authentication(5, &[1, 2, 3, 4]);
    let clear = authentication(3, b"");
    let mut secrets = vec![PASSWORD.to_owned(), format!("{:?}", PASSWORD.as_bytes())];
    for (scene, bytes) in [
        (&scene, authentication(12, b"v=AAAA")),
        (&scene, authentication(12, &server_final())),
        (&Scene::with_password(), md5),
        (&Scene::with_password(), clear),
        (&Scene::with_password(), hex(SASL)),
        (&Scene::with_password(), hex("4b 0000000c 00000007 00000001")),
    ] {
        let mut play = scene.begin();
        seen += &format!("{:?}", play.session);
        play.feed(&bytes);
        seen += &format!("{:?}", play.session);
        for message in play.sent_messages().iter().skip(1) {
            // The proof, the MD5 response and the password itself.
            let text = String::from_utf8_lossy(&message[5..]);
            let secret = text.rsplit(",p=").next().unwrap();
            if !text.contains("n,,n=") {
                secrets.push(secret.trim_end_matches('\0').to_owned());
            }
        }
        let error = play.eof();
        seen += &format!("{error} {error:?} {:?} {:?}", play.session, play.log);
    }
    assert!(secrets.iter().any(|secret| secret.starts_with("md5")));
    assert!(secrets.len() >= 6);
    for secret in secrets {
        assert!(!seen.contains(&secret), "{secret}");
    }
}
