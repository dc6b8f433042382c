//! Tests of the whole exchange: every request in every state, and hostile servers.

mod policy;

use super::scram::SCRAM_ITERATIONS_MAX;
use super::*;
use crate::error::{Error, ErrorKind};

const SASL: Authentication<'static> = Authentication::Sasl { mechanisms: b"SCRAM-SHA-256\0\0" };
const PLUS: Authentication<'static> =
    Authentication::Sasl { mechanisms: b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0" };
const MD5: Authentication<'static> = Authentication::Md5Password { salt: [1, 2, 3, 4] };

/// Base64 of 18 zero bytes.
const NONCE: &str = "AAAAAAAAAAAAAAAAAAAAAAAA";

fn credentials() -> Credentials {
    Credentials::new("postgres").unwrap().password(Password::new("secret")).unwrap()
}

fn authenticator_with(credentials: Credentials, policy: AuthPolicy) -> Authenticator {
    Authenticator::new(credentials, policy, ScramNonce::new([0; 18]))
}

/// An authenticator that answers every supported request.
fn authenticator() -> Authenticator {
    authenticator_with(credentials(), AuthPolicy::default().allow_cleartext(true))
}

fn tls(end_point: Option<Vec<u8>>) -> AuthPolicy {
    AuthPolicy::default().channel(Channel::Tls { end_point })
}

fn sent(step: Result<AuthStep, AuthError>) -> Vec<u8> {
    match step {
        Ok(AuthStep::Send(response)) => response.body().to_vec(),
        other => panic!("expected something to send, found {other:?}"),
    }
}

fn violation(step: Result<AuthStep, AuthError>) -> (&'static str, &'static str) {
    match step {
        Err(AuthError::Violation { expected, found }) => (expected, found),
        other => panic!("expected a violation, found {other:?}"),
    }
}

fn method(step: Result<AuthStep, AuthError>) -> AuthMethod {
    match step {
        Ok(AuthStep::Done(method)) => method,
        other => panic!("expected the end of the login, found {other:?}"),
    }
}

/// A client, a server that has its password, and the client's last message.
struct Scram {
    client: Authenticator,
    server: ScramServer,
    last: Vec<u8>,
}

impl Scram {
    /// Runs the exchange up to the server-first-message, which is returned.
    fn challenged(iterations: u32) -> (Self, Vec<u8>) {
        let policy = AuthPolicy::default().scram_iterations_min(1);
        let mut client = authenticator_with(credentials(), policy);
        let body = sent(client.handle(&SASL));
        let first = body.strip_prefix(b"SCRAM-SHA-256\0\0\0\0\x20").expect("name and length");
        let verifier =
            ScramVerifier::from_password(&Password::new("secret"), b"salt", iterations).unwrap();
        let mut server = ScramServer::new(verifier, ScramNonce::new([0xff; 18]));
        let challenge = server.handle_client_first(first).unwrap();
        (Self { client, server, last: Vec::new() }, challenge)
    }

    /// Runs the exchange up to the client-final-message.
    fn answered(iterations: u32) -> Self {
        let (mut exchange, challenge) = Self::challenged(iterations);
        let mut step = exchange.client.handle(&Authentication::SaslContinue(&challenge));
        while matches!(step, Ok(AuthStep::Compute)) {
            step = exchange.client.compute();
        }
        exchange.last = sent(step);
        exchange
    }

    fn signature(&mut self) -> Vec<u8> {
        match self.server.handle_client_final(&self.last) {
            Ok(ScramVerdict::Accepted(text)) => text,
            other => panic!("expected a signature, found {other:?}"),
        }
    }
}

#[test]
fn a_login_without_a_request_has_the_method_trust() {
    assert_eq!(method(authenticator().handle(&Authentication::Ok)), AuthMethod::Trust);
}

#[test]
fn a_password_in_clear_is_sent_unchanged_with_a_nul() {
    let mut client = authenticator();
    assert_eq!(sent(client.handle(&Authentication::CleartextPassword)), b"secret\0");
    assert_eq!(method(client.handle(&Authentication::Ok)), AuthMethod::Password);
}

#[test]
fn an_md5_response_is_sent_with_a_nul() {
    let mut client = authenticator();
    assert_eq!(sent(client.handle(&MD5)), b"md5bb41a296aab6baccb36ff243a562abff\0");
    assert_eq!(method(client.handle(&Authentication::Ok)), AuthMethod::Md5);
}

#[test]
fn a_scram_exchange_succeeds() {
    let mut exchange = Scram::answered(4_096);
    let signature = exchange.signature();
    let step = exchange.client.handle(&Authentication::SaslFinal(&signature));
    assert!(matches!(step, Ok(AuthStep::Wait)));
    assert_eq!(method(exchange.client.handle(&Authentication::Ok)), AuthMethod::ScramSha256);
}

#[test]
fn keys_are_computed_in_steps_of_at_most_1000_rounds() {
    for (iterations, steps) in [(1, 1), (1_000, 1), (1_001, 2), (4_096, 5), (10_000, 10)] {
        let (mut exchange, challenge) = Scram::challenged(iterations);
        let step = exchange.client.handle(&Authentication::SaslContinue(&challenge));
        assert!(matches!(step, Ok(AuthStep::Compute)));
        for _ in 1..steps {
            assert!(matches!(exchange.client.compute(), Ok(AuthStep::Compute)));
        }
        assert!(matches!(exchange.client.compute(), Ok(AuthStep::Send(_))));
    }
}

/// libpq accepts the first two of these.
#[test]
fn a2_ok_before_a_verified_signature_is_refused_in_every_state_of_scram() {
    let expected = "the next message of the SCRAM exchange";
    let refused = |client: &mut Authenticator| {
        assert_eq!(violation(client.handle(&Authentication::Ok)), (expected, "AuthenticationOk"));
        assert!(client.handle(&Authentication::Ok).is_err(), "the error is final");
    };
    let mut first_sent = authenticator();
    sent(first_sent.handle(&SASL));
    refused(&mut first_sent);

    let (mut exchange, challenge) = Scram::challenged(2_000);
    assert!(exchange.client.handle(&Authentication::SaslContinue(&challenge)).is_ok());
    assert!(matches!(exchange.client.compute(), Ok(AuthStep::Compute)));
    refused(&mut exchange.client);

    refused(&mut Scram::answered(1).client);

    let mut exchange = Scram::answered(1);
    assert!(exchange.client.handle(&Authentication::SaslFinal(b"v=AAAA")).is_err());
    assert!(exchange.client.handle(&Authentication::Ok).is_err());
}

#[test]
fn a4_a_server_without_the_password_is_rejected() {
    let wrong = format!("v={}=", "A".repeat(43));
    for (text, kind) in [
        (wrong.as_bytes(), ErrorKind::Auth),
        (b"e=invalid-proof", ErrorKind::Auth),
        (b"v=AAAA", ErrorKind::Protocol),
        (b"", ErrorKind::Protocol),
    ] {
        let mut exchange = Scram::answered(1);
        let error = exchange.client.handle(&Authentication::SaslFinal(text)).unwrap_err();
        assert!(matches!(error, AuthError::Scram(_)), "{error}");
        assert_eq!(Error::from(error).kind(), kind);
        let right = exchange.signature();
        assert!(exchange.client.handle(&Authentication::SaslFinal(&right)).is_err());
    }
}

#[test]
fn a6_an_iteration_count_above_the_maximum_of_the_policy_is_refused() {
    let policy = AuthPolicy::default().scram_iterations_max(4_096);
    for (policy, max) in [(AuthPolicy::default(), SCRAM_ITERATIONS_MAX), (policy, 4_096)] {
        let mut client = authenticator_with(credentials(), policy);
        sent(client.handle(&SASL));
        let challenge = format!("r={NONCE}x,s=AAAA,i={}", max + 1);
        let error = client.handle(&Authentication::SaslContinue(challenge.as_bytes())).unwrap_err();
        let found = u64::from(max) + 1;
        assert_eq!(error, AuthError::Scram(ScramError::TooManyIterations { found, max }));
        assert_eq!(Error::from(error).kind(), ErrorKind::Auth);
    }
}

/// With a proof for one iteration, passwords can be tried 4,096 times faster.
#[test]
fn a6_no_proof_is_sent_for_an_iteration_count_below_the_minimum_of_the_policy() {
    let policy = AuthPolicy::default().scram_iterations_min(600_000);
    for (policy, min) in [(AuthPolicy::default(), SCRAM_ITERATIONS_MIN), (policy, 600_000)] {
        for found in [1, min - 1] {
            let mut client = authenticator_with(credentials(), policy.clone());
            sent(client.handle(&SASL));
            let challenge = format!("r={NONCE}x,s=AAAA,i={found}");
            let error =
                client.handle(&Authentication::SaslContinue(challenge.as_bytes())).unwrap_err();
            let found = u64::from(found);
            assert_eq!(error, AuthError::Scram(ScramError::TooFewIterations { found, min }));
            let error = Error::from(error);
            assert_eq!(error.kind(), ErrorKind::Auth);
            assert!(error.hint().unwrap().contains("lower scram_iterations_min"), "{error}");
        }
        let mut client = authenticator_with(credentials(), policy);
        sent(client.handle(&SASL));
        let challenge = format!("r={NONCE}x,s=AAAA,i={min}");
        let step = client.handle(&Authentication::SaslContinue(challenge.as_bytes()));
        assert!(matches!(step, Ok(AuthStep::Compute)), "{step:?}");
    }
}

#[test]
fn a11_a_mechanism_list_that_is_malformed_or_too_long_is_a_violation() {
    let list = |mechanisms: &[u8]| {
        violation(authenticator().handle(&Authentication::Sasl { mechanisms })).1
    };
    assert_eq!(list(b""), "none");
    assert_eq!(list(b"\0"), "none");
    assert_eq!(list(b"SCRAM-SHA-256"), "a list without an empty name at its end");
    assert_eq!(list(b"SCRAM-SHA-256\0"), "a list without an empty name at its end");
    assert_eq!(list(b"\0\0"), "bytes after the end of the list");
    assert_eq!(list(b"SCRAM-SHA-256\0\0\0"), "bytes after the end of the list");
    assert_eq!(list(b"X\0\0SCRAM-SHA-256\0\0"), "bytes after the end of the list");
    assert_eq!(list(&[b"SCRAM-SHA-256\0".repeat(100), vec![0]].concat()), "more than 16 names");

    let sixteen = [b"X\0".repeat(15), b"SCRAM-SHA-256\0\0".to_vec()].concat();
    sent(authenticator().handle(&Authentication::Sasl { mechanisms: &sixteen }));
}

#[test]
fn a11_mechanisms_that_are_not_supported_are_named_and_escaped() {
    let refused = |policy, mechanisms: &[u8]| {
        let mut client = authenticator_with(credentials(), policy);
        client.handle(&Authentication::Sasl { mechanisms }).unwrap_err()
    };
    let error = refused(AuthPolicy::default(), b"SCRAM-SHA-1\0OAUTHBEARER\0\x1b[2J\0\0");
    assert_eq!(
        error.to_string(),
        "expected SCRAM-SHA-256 among the SASL mechanisms, \
         found SCRAM-SHA-1, OAUTHBEARER, \\u{1b}[2J"
    );
    assert_eq!(Error::from(error).kind(), ErrorKind::Unsupported);
    for near in [&b"SCRAM-SHA-256X\0\0"[..], b"scram-sha-256\0\0", b"SCRAM-SHA-25\0\0"] {
        assert!(matches!(refused(tls(None), near), AuthError::NoMechanism { .. }));
    }
    let only_plus = refused(tls(None), b"SCRAM-SHA-256-PLUS\0\0");
    assert!(matches!(only_plus, AuthError::NoMechanism { .. }));
}

#[test]
fn a11_an_offer_of_channel_binding_without_tls_is_a_violation() {
    assert_eq!(violation(authenticator().handle(&PLUS)).1, "an offer of SCRAM-SHA-256-PLUS");
}

#[test]
fn mechanism_and_header_depend_on_the_channel() {
    let hash = Some(vec![7; 32]);
    for (policy, offer, expect) in [
        (AuthPolicy::default(), &SASL, &b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r="[..]),
        (tls(None), &SASL, b"SCRAM-SHA-256\0\0\0\0\x20y,,n=,r="),
        (tls(None).server_verified(true), &SASL, b"SCRAM-SHA-256\0\0\0\0\x20y,,n=,r="),
        (tls(None).server_verified(true), &PLUS, b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r="),
        (tls(hash.clone()), &SASL, b"SCRAM-SHA-256\0\0\0\0\x20y,,n=,r="),
        (tls(hash), &PLUS, b"SCRAM-SHA-256-PLUS\0\0\0\0\x35p=tls-server-end-point,,n=,r="),
    ] {
        let body = sent(authenticator_with(credentials(), policy).handle(offer));
        assert_eq!(body, [expect, NONCE.as_bytes()].concat());
    }
}

/// A14, a salt of two bytes, is refused by the codec.
#[test]
fn a15_methods_that_are_not_supported_are_named() {
    for (code, name) in [
        (2, "Kerberos 5 (code 2)"),
        (6, "SCM credentials (code 6)"),
        (7, "GSSAPI (code 7)"),
        (8, "GSSAPI (code 8)"),
        (9, "SSPI (code 9)"),
        (99, "authentication code 99"),
        (-1, "authentication code -1"),
    ] {
        let request = Authentication::Unsupported { code, data: b"\x1b[2J" };
        let error = authenticator().handle(&request).unwrap_err();
        assert_eq!(error, AuthError::Unsupported { code });
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(Error::from(error).kind(), ErrorKind::Unsupported);
    }
}

fn every_request() -> [Authentication<'static>; 8] {
    [
        Authentication::Ok,
        Authentication::CleartextPassword,
        MD5,
        SASL,
        PLUS,
        Authentication::SaslContinue(b"r=x"),
        Authentication::SaslFinal(b"v=x"),
        Authentication::Unsupported { code: 7, data: b"" },
    ]
}

#[test]
fn a_second_request_is_a_violation() {
    let answered = |first: &'static Authentication<'static>| {
        move || {
            let mut client = authenticator();
            sent(client.handle(first));
            client
        }
    };
    let done = || {
        let mut client = authenticator();
        method(client.handle(&Authentication::Ok));
        client
    };
    let verified = || {
        let mut exchange = Scram::answered(1);
        let signature = exchange.signature();
        assert!(exchange.client.handle(&Authentication::SaslFinal(&signature)).is_ok());
        exchange.client
    };
    // The index of the request that may follow: AuthenticationOk (0) or none.
    let states: [(&dyn Fn() -> Authenticator, Option<usize>); 5] = [
        (&answered(&Authentication::CleartextPassword), Some(0)),
        (&answered(&MD5), Some(0)),
        (&answered(&SASL), None),
        (&verified, Some(0)),
        (&done, None),
    ];
    for (state, (make, allowed)) in states.iter().enumerate() {
        for (index, request) in every_request().iter().enumerate() {
            let mut client = make();
            let step = client.handle(request);
            if *allowed == Some(index) {
                assert!(matches!(step, Ok(AuthStep::Done(_))), "state {state}");
                continue;
            }
            let error = step.unwrap_err();
            assert_eq!(Error::from(error).kind(), ErrorKind::Protocol, "{state}, {index}");
            for request in &every_request() {
                assert!(client.handle(request).is_err(), "an error is final");
            }
        }
    }
}

#[test]
fn scram_messages_without_an_exchange_are_violations() {
    for request in [Authentication::SaslContinue(b"r=x"), Authentication::SaslFinal(b"v=x")] {
        let (expected, _) = violation(authenticator().handle(&request));
        assert_eq!(expected, "a first authentication request");
    }
}

#[test]
fn compute_is_misuse_outside_of_a_computation() {
    let mut first_sent = authenticator();
    sent(first_sent.handle(&SASL));
    for mut client in [authenticator(), first_sent, Scram::answered(1).client] {
        let error = client.compute().unwrap_err();
        assert!(matches!(error, AuthError::Misuse { .. }));
        assert_eq!(Error::from(error).kind(), ErrorKind::Misuse);
        assert!(client.handle(&Authentication::Ok).is_err());
    }
}

#[test]
fn without_a_password_the_error_names_the_requested_method() {
    let missing = Credentials::new("postgres").unwrap();
    let empty = missing.clone().password(Password::new("")).unwrap();
    assert!(!empty.has_password());
    for credentials in [missing, empty] {
        for (request, method) in [
            (&Authentication::CleartextPassword, "password"),
            (&MD5, "md5"),
            (&SASL, "scram-sha-256"),
        ] {
            let policy = AuthPolicy::default().allow_cleartext(true);
            let error =
                authenticator_with(credentials.clone(), policy).handle(request).unwrap_err();
            assert!(matches!(error, AuthError::NoPassword { .. }));
            let expect = format!("server asks for a password (method {method}) and none was given");
            assert_eq!(error.to_string(), expect);
            let error = Error::from(error);
            assert_eq!(error.kind(), ErrorKind::Auth);
            assert_eq!(error.hint(), Some("set password, PGPASSWORD or a password file"));
        }
    }
}

#[test]
fn a_nul_in_user_or_password_is_refused_without_showing_the_value() {
    let user = Credentials::new("planted\0secret").unwrap_err();
    let password = Credentials::new("me").unwrap().password(Password::new("planted\0secret"));
    for error in [user, password.unwrap_err()] {
        assert!(matches!(error, AuthError::Credentials { .. }));
        let error = Error::from(error);
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(!format!("{error} {error:?}").contains("planted"));
    }
}

#[cfg(not(feature = "saslprep"))]
#[test]
fn a_password_that_is_not_ascii_needs_the_feature_only_for_scram() {
    let credentials = credentials().password(Password::new("gr\u{fc}n")).unwrap();
    let policy = AuthPolicy::default().allow_cleartext(true);
    let client = || authenticator_with(credentials.clone(), policy.clone());
    assert_eq!(client().handle(&SASL).unwrap_err(), AuthError::NonAsciiPassword);
    assert_eq!(sent(client().handle(&Authentication::CleartextPassword)), b"gr\xc3\xbcn\0");
    sent(client().handle(&MD5));
}

/// L1: with a planted secret, all values of a login are printed.
#[test]
fn debug_and_display_show_no_secret() {
    let secret = "pl4nted";
    let credentials = Credentials::new("me").unwrap().password(Password::new(secret)).unwrap();
    let mut shown = vec![format!("{credentials:?}")];
    let policy = AuthPolicy::default().allow_cleartext(true);
    let client = || authenticator_with(credentials.clone(), policy.clone());
    for request in &every_request() {
        let mut client = client();
        let step = client.handle(request);
        shown.push(format!("{step:?} {client:?}"));
        if let Err(error) = step {
            shown.push(format!("{error} {error:?} {:?}", Error::from(error.clone())));
        }
    }
    let mut client = client();
    sent(client.handle(&SASL));
    let challenge = format!("r={NONCE}x,s=AAAA,i=4096");
    let mut step = client.handle(&Authentication::SaslContinue(challenge.as_bytes()));
    while matches!(step, Ok(AuthStep::Compute)) {
        shown.push(format!("{client:#?}"));
        step = client.compute();
    }
    shown.push(format!("{client:#?} {step:?}"));
    let bytes = format!("{:?}", secret.as_bytes());
    let bytes = bytes.trim_matches(['[', ']']);
    let proof = String::from_utf8(sent(step)).unwrap();
    let proof = proof.rsplit("p=").next().unwrap();
    for text in shown {
        assert!(!text.contains(secret) && !text.contains(bytes) && !text.contains(proof), "{text}");
        assert!(!text.contains(NONCE), "{text}");
    }
}
