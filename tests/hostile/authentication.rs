//! Faults A of the catalogue in `tests/README.md`: servers that ask for more than they may get, or prove nothing.

use std::io;

use pgbell::proto::auth::{AuthMethod, AuthPolicy, Channel, ChannelBinding};
use pgbell::proto::session::{Login, Session};
use pgbell::testing::{Delivery, Script};
use pgbell::{Connection, ErrorKind, Listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::attack::{Attack, LISTEN, at_login, hex, runtime, with_policy};
use super::client::{self, Action, PASSWORD, soon, url};
use super::scram::{SASL, SASL_PLUS, answered, begun, challenge, request, signature, verifier};

const OK: &str = "52 00000008 00000000";
const CLEARTEXT: &str = "52 00000008 00000003";
const MD5: &str = "52 0000000c 00000005 01020304";

fn requiring_scram() -> Login {
    with_policy(AuthPolicy::default().require_auth("scram-sha-256".parse().unwrap()))
}

fn bound(end_point: Option<Vec<u8>>) -> AuthPolicy {
    AuthPolicy::default().channel(Channel::Tls { end_point })
}

fn requiring_binding() -> Login {
    with_policy(bound(Some(vec![7; 32])).channel_binding(ChannelBinding::Require))
}

/// A login, and the parameters of a connection string that ask for the same, if there are any.
type Asking = (fn() -> Login, Option<&'static str>);

const ANYTHING: Asking = (client::login, Some(""));
const SCRAM: Asking = (requiring_scram, Some("&require_auth=scram-sha-256"));
/// This is only possible over TLS.
const BINDING: Asking = (requiring_binding, None);

/// The server answers the startup packet with this. The client closes the connection and has sent nothing.
#[track_caller]
fn refused(bytes: &str, (login, parameters): Asking, expect: &str) {
    let bytes = hex(bytes);
    let script = Script::new().expect_startup().send(&bytes).wait_for_eof();
    let attack = Attack::new(script, bytes.len(), LISTEN);
    let attack = match parameters {
        Some(parameters) => attack.asking(login, parameters),
        None => attack.login(login),
    };
    attack.run(&[&format!("connect: {expect}")], &[]);
}

/// The server answers the client's first SCRAM message with this. The client closes the connection.
#[track_caller]
fn refused_challenge(text: impl Fn(&str) -> String + Send + Sync + 'static, expect: &str) {
    let script = begun().send_with(challenge(text)).wait_for_eof();
    Attack::new(script, 0, LISTEN).splits(24..90).run(&[&format!("connect: {expect}")], &[]);
}

/// The server answers the client's last SCRAM message with this, and AuthenticationOk. The client refuses.
#[track_caller]
fn refused_signature(text: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static, expect: &str) {
    let verifier = verifier(1);
    let script = answered(&verifier)
        .send_with(move |received| {
            let last = request(12, &text(&signature(&verifier, received)));
            [&last[..], Script::PRELUDE].concat()
        })
        .wait_for_eof();
    let attack = Attack::new(script, 0, LISTEN).splits(100..170);
    attack.run(&[&format!("connect: {expect}")], &[]);
}

#[test]
fn a1_a_server_that_asks_for_no_authentication_is_reported_or_refused() {
    refused(OK, SCRAM, "Auth | server asks for no authentication");
    refused(OK, BINDING, "Auth | which channel_binding=require does not allow");
    runtime().block_on(async {
        let script = Script::ready().expect_hex("58 00000004").wait_for_eof();
        let (address, task) = script.serve(Delivery::Whole).await.unwrap();
        let connection = soon("connect", Connection::connect(&*url(address))).await.unwrap();
        assert_eq!(connection.auth_method(), Some(AuthMethod::Trust));
        soon("close", connection.close()).await;
        task.await.unwrap().unwrap();
    });
}

/// libpq accepts it at each of these moments.
#[test]
fn a2_authentication_ok_inside_scram_is_always_refused() {
    let last = "connect: Protocol | expected the next message of the SCRAM exchange";
    let premature = [hex(OK), Script::PRELUDE[9..].to_vec()].concat();
    let early = Script::new().expect_startup().send_hex(SASL).expect_message(b'p').send(&premature);
    let attack = Attack::new(early.wait_for_eof(), premature.len(), LISTEN);
    attack.run(&[last], &[]);
    let without_signature = answered(&verifier(1)).send(&premature).wait_for_eof();
    Attack::new(without_signature, 0, LISTEN).splits(90..130).run(&[last], &[]);
    // The messages arrive after the challenge, while the client computes the keys. It refuses them at once, or when it has
    // the keys.
    let verifier = verifier(50_000);
    let during_derivation = begun().send_with(move |received| {
        [super::scram::first(&verifier)(received), Script::PRELUDE.to_vec()].concat()
    });
    Attack::new(during_derivation.close(), 0, LISTEN)
        .splits(90..92)
        .run(&["connect: Protocol | "], &[]);
}

/// Also V27: the error must not name the password as the cause if the server is not the one that it claims to be.
#[test]
fn a4_a_server_that_does_not_know_the_password_is_refused() {
    let text = |text: &'static str| move |_: &[u8]| text.as_bytes().to_vec();
    let wrong = "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    refused_signature(text(wrong), "Auth | the server does not know the password");
    refused_signature(text("e=invalid-proof"), "Auth | ended the SCRAM exchange: invalid-proof");
    refused_signature(text("e=\x1b[2J"), "Auth | ended the SCRAM exchange: \\u{1b}[2J");
    let not_32 = "Protocol | signature that is not the base64 of 32 bytes";
    refused_signature(text("v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="), not_32);
    refused_signature(text("v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), not_32);
    refused_signature(text("v=!!!"), not_32);
    refused_signature(text(""), "Protocol | neither a signature (v=) nor an error (e=)");
    let more = |right: &[u8]| [right, b",x=1"].concat();
    refused_signature(more, "Protocol | trailing attributes");
}

#[test]
fn a4_the_right_signature_is_accepted() {
    let verifier = verifier(1);
    let script = answered(&verifier)
        .send_with(move |received| {
            let last = request(12, &signature(&verifier, received));
            [&last[..], Script::PRELUDE].concat()
        })
        .expect_message(b'Q')
        .send(Script::FACTS)
        .expect_message(b'Q')
        .send(Script::ACK)
        .send(Script::A1)
        .expect_hex("58 00000004")
        .wait_for_eof();
    let actions = &[Action::Listen(&["a"]), Action::Receive(1), Action::Close];
    let attack = Attack::new(script, 0, actions).splits(1..480);
    attack.run(&["connect", "listen", "close"], &["1 a b"]);
}

#[test]
fn a5_a_nonce_that_does_not_continue_ours_is_refused() {
    let other = "Auth | nonce in server-first-message does not belong to this exchange";
    let printable = "Protocol | nonce that is empty or not printable ASCII";
    refused_challenge(|r| format!("r={r},s=c2FsdA==,i=1"), "Auth | added nothing to the nonce");
    refused_challenge(|r| format!("r=x{r},s=c2FsdA==,i=1"), other);
    refused_challenge(|_| "r=AAAAAAAAAAAAAAAAAAAAAAAAx,s=c2FsdA==,i=1".to_owned(), other);
    refused_challenge(|r| format!("r={r}\x07,s=c2FsdA==,i=1"), printable);
    refused_challenge(|_| "r=,s=c2FsdA==,i=1".to_owned(), printable);
    // V23: a long nonce, and allowed; the client sends its proof.
    let long = challenge(|r| format!("r={r}{},s=c2FsdA==,i=1", "x".repeat(1_900)));
    let script = begun().send_with(long).expect_message(b'p').close();
    let attack = Attack::new(script, 0, LISTEN).splits(24..90);
    attack.run(&["connect: Connect | closed the connection"], &[]);
    refused_challenge(
        |r| format!("r={r}{},s=c2FsdA==,i=1", "x".repeat(1_955)),
        "Protocol | length word 2004 is above 2000 in Authentication",
    );
}

/// Also V18. That no round is computed is tested in `session::tests::authentication` and `auth::scram::tests::alone`.
#[test]
fn a6_an_iteration_count_above_the_cap_or_malformed_is_refused_before_any_work() {
    let malformed = "Protocol | iteration count that is not a positive decimal number";
    for count in ["0", "-1", "+4096", "4096x", "04096", ""] {
        refused_challenge(move |r| format!("r={r}x,s=c2FsdA==,i={count}"), malformed);
    }
    for count in ["2000001", "2147483647", "4294967297"] {
        let expect =
            format!("Auth | asks for {count} SCRAM iterations, more than the 2000000 allowed");
        refused_challenge(move |r| format!("r={r}x,s=c2FsdA==,i={count}"), &expect);
    }
    refused_challenge(|r| format!("r={r}x,s=c2FsdA=="), "Protocol | missing iteration count (i=)");
    refused_challenge(|r| format!("m=x,r={r}x,s=c2FsdA==,i=1"), "Protocol | mandatory extension");
}

/// A proof for one iteration makes it 4,096 times cheaper to guess the password.
#[test]
fn a6_few_iterations_get_no_proof() {
    for count in [1, 4_095] {
        let script = begun()
            .send_with(challenge(move |r| format!("r={r}x,s=c2FsdA==,i={count}")))
            .wait_for_eof();
        let attack = Attack::new(script, 0, LISTEN)
            .splits(24..90)
            .asking(|| client::login().policy(AuthPolicy::default()), "&scram_iterations_min=4096");
        let expect = format!("asks for {count} SCRAM iterations, fewer than the 4096 required");
        attack.run(&[&format!("connect: Auth | {expect}")], &[]);
    }
}

#[test]
fn a8_a_salt_is_strict_base64_of_1_to_1024_bytes() {
    let encoding = "Protocol | salt that is not padded base64";
    for salt in ["=", "AA", "AA AA", " AAAA", "AAAA\n", "-_-_"] {
        refused_challenge(move |r| format!("r={r}x,s={salt},i=1"), encoding);
    }
    let size = "Protocol | salt not of 1 to 1024 bytes";
    refused_challenge(|r| format!("r={r}x,s=,i=1"), size);
    refused_challenge(|r| format!("r={r}x,s={},i=1", "A".repeat(1_400)), size);
    let short = begun().send_with(challenge(|r| format!("r={r}x,s=AA==,i=1")));
    let attack = Attack::new(short.expect_message(b'p').close(), 0, LISTEN).splits(24..90);
    attack.run(&["connect: Connect | closed the connection"], &[]);
}

#[test]
fn a11_a_list_of_mechanisms_that_is_broken_or_has_none_of_ours_is_not_answered() {
    let list = |names: &[u8]| request(10, names);
    let end = "Protocol | mechanism name is not ended by a NUL";
    for (bytes, expect) in [
        (list(b"SCRAM-SHA-256"), end),
        (list(b"SCRAM-SHA-256\0"), end),
        (list(b"\0"), "Protocol | mechanism count is 0"),
        (list(b""), end),
        (list(b"SCRAM-SHA-256\0\0x"), "Protocol | expected the end and found 1 more bytes"),
        (list(b"SCRAM-SHA-1\0\0"), "Unsupported | found SCRAM-SHA-1"),
        (list(b"OAUTHBEARER\0\0"), "Unsupported | found OAUTHBEARER (hint: OAuth is not supported"),
        (list(b"\x1b[2J\0\0"), "Unsupported | found \\u{1b}[2J"),
        (
            list(&[b"SCRAM-SHA-256\0".repeat(100), b"\0".to_vec()].concat()),
            "Protocol | found more than 16 names",
        ),
        // An attacker between client and server has removed the TLS.
        (hex(SASL_PLUS), "Protocol | found an offer of SCRAM-SHA-256-PLUS"),
    ] {
        at_login(&bytes, expect);
    }
}

/// Also V16.
#[test]
fn a12_a_clear_password_is_not_sent_where_scram_or_binding_is_required_nor_in_clear() {
    refused(CLEARTEXT, BINDING, "Auth | which channel_binding=require does not allow");
    refused(CLEARTEXT, SCRAM, "Auth | which require_auth=scram-sha-256 does not allow");
    refused(CLEARTEXT, ANYTHING, "Auth | the password would be sent in clear (hint: use TLS");
}

/// Also V16.
#[test]
fn a13_md5_is_refused_unanswered_when_scram_or_binding_is_required() {
    refused(MD5, BINDING, "Auth | method md5, which channel_binding=require");
    refused(MD5, SCRAM, "Auth | method md5, which require_auth=scram-sha-256");
}

#[test]
fn a14_a_salt_of_two_bytes_is_refused() {
    at_login(&hex("52 0000000a 00000005 0102"), "Protocol | salt needs 4 bytes and 2 are left");
}

#[test]
fn a15_a_method_that_is_not_spoken_is_named_and_not_answered() {
    for (code, name) in [
        (2, "Kerberos 5 (code 2)"),
        (6, "SCM credentials (code 6)"),
        (7, "GSSAPI (code 7)"),
        (8, "GSSAPI (code 8)"),
        (9, "SSPI (code 9)"),
        (99, "authentication code 99"),
        (u32::MAX, "authentication code -1"),
    ] {
        at_login(&request(code, b""), &format!("Unsupported | server asks for {name}"));
    }
}

/// Also V17: if the certificate has no hash, `prefer` sends `n` if the certificate was verified and nothing otherwise, and
/// `require` fails before the first byte.
#[test]
fn a17_a_certificate_without_a_hash_allows_no_channel_binding() {
    for login in [
        || with_policy(bound(None).server_verified(true)),
        || with_policy(bound(Some(vec![7; 32])).channel_binding(ChannelBinding::Disable)),
    ] {
        let verifier = verifier(1);
        let script = Script::new()
            .expect_startup()
            .send_hex(SASL_PLUS)
            .expect_message(b'p')
            .send_with({
                let first = super::scram::first(&verifier);
                move |received: &[bytes::Bytes]| {
                    assert!(received[1][5..].starts_with(b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r="));
                    first(received)
                }
            })
            .expect_message(b'p')
            .send_with(move |received| {
                let last = request(12, &signature(&verifier, received));
                [&last[..], Script::PRELUDE].concat()
            })
            .expect_message(b'Q')
            .send(Script::FACTS)
            .expect_hex("58 00000004")
            .wait_for_eof();
        let attack = Attack::new(script, 0, &[Action::Close]).splits(1..300).login(login);
        attack.run(&["connect", "close"], &[]);
    }
    let unverified = || with_policy(bound(None));
    refused(SASL_PLUS, (unverified, None), "Auth | the server offers channel binding");
    let require = bound(None).channel_binding(ChannelBinding::Require);
    let error = Session::new(with_policy(require)).unwrap_err();
    client::check_text(&error);
    assert_eq!(error.kind(), ErrorKind::Auth);
    let text = format!("{error:#}");
    assert!(text.contains("Ed25519") && text.contains("channel_binding=prefer"), "{text}");
    // The offer is not ignored either.
    let without = "Auth | the server does not offer SCRAM-SHA-256-PLUS";
    refused(SASL, BINDING, without);
}

/// The reverse case: `require` must still connect to a server that has TLS.
#[cfg(feature = "tls")]
#[test]
fn a17_where_binding_is_required_the_server_is_asked_for_tls_first() {
    runtime().block_on(async {
        let script = || Script::new().expect_hex("00000008 04d2162f").send(b"N").wait_for_eof();
        let (address, task) = script().serve(Delivery::Whole).await.unwrap();
        let binding = "sslmode=require&channel_binding=require";
        let url = |address| url(address).replace("sslmode=disable", binding);
        let error = soon("connect", Connection::connect(&*url(address))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
        soon("script", task).await.unwrap().unwrap();
        let (address, task) = script().serve(Delivery::Whole).await.unwrap();
        let error = soon("connect", Listener::connect(&*url(address))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
        soon("script", task).await.unwrap().unwrap();
    });
}

/// One attempt, and no second one: a server that counts failed logins must not lock the role.
#[test]
fn a20_a_wrong_password_is_reported_and_not_tried_again() {
    let refusal = b"E\0\0\0\x1fSFATAL\0C28P01\0Mwrong word\0\0";
    assert_eq!(refusal.len(), 1 + 0x1f);
    runtime().block_on(async {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        for client in ["connection", "listener"] {
            let serving = async {
                let (mut socket, _) = server.accept().await.unwrap();
                let length = socket.read_u32().await.unwrap();
                socket.read_exact(&mut vec![0; length as usize - 4]).await.unwrap();
                socket.write_all(refusal).await.unwrap();
                assert_eq!(socket.read(&mut [0]).await.unwrap(), 0);
            };
            let connecting = async {
                match client {
                    "connection" => drop(Connection::connect(&*url(address)).await.map_err(check)),
                    _ => drop(Listener::connect(&*url(address)).await.map_err(check)),
                }
            };
            soon(client, async { tokio::join!(serving, connecting) }).await;
        }
        let again = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match server.poll_accept(cx) {
                std::task::Poll::Ready(_) => Ok(()),
                std::task::Poll::Pending => Err(io::ErrorKind::WouldBlock),
            })
        });
        assert_eq!(again.await, Err(io::ErrorKind::WouldBlock));
    });
    fn check(error: pgbell::Error) -> pgbell::Error {
        client::check_text(&error);
        assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Auth, Some("28P01")), "{error}");
        assert!(!error.is_transient());
        error
    }
}

/// L1: no error shows the password or an answer that is derived from it, for any method that a server asks for.
#[test]
fn l1_no_answer_to_any_method_shows_in_an_error() {
    let anything = || with_policy(AuthPolicy::default().allow_cleartext(true));
    for (ask, answer) in [(CLEARTEXT, format!("{PASSWORD}\0")), (MD5, "md5".to_owned())] {
        let check = move |received: &[bytes::Bytes]| {
            assert!(received[1][5..].starts_with(answer.as_bytes()));
            hex("45 0000001a 53464154414c00 43323850303100 4d77726f6e6700 00")
        };
        let script = Script::new().expect_startup().send_hex(ask).expect_message(b'p');
        let attack = Attack::new(script.send_with(check).wait_for_eof(), 0, LISTEN).splits(1..40);
        let expect = "connect: Auth | FATAL: wrong (SQLSTATE 28P01)";
        attack.asking(anything, "&require_auth=password,md5").run(&[expect], &[]);
    }
}
