//! Tests of the client with published vectors and with a hostile server.

use super::*;

fn check_vector(mut client: ScramClient, first: &str, c: &str, p: &str, v: &str) {
    assert_eq!(client.client_first().unwrap(), first.as_bytes());
    client.handle_server_first(SERVER_FIRST.as_bytes()).unwrap();
    finish(&mut client);
    let expect = format!("c={c},r={CLIENT_NONCE}{SERVER_NONCE},p={p}");
    assert_eq!(client.client_final().unwrap().body(), expect.as_bytes());
    assert!(!client.is_verified());
    client.handle_server_final(format!("v={v}").as_bytes()).unwrap();
    assert!(client.is_verified());
}

#[test]
fn the_exchange_of_rfc_7677() {
    check_vector(
        client(Binding::None).username("user"),
        "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        "biws",
        "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    );
}

#[test]
fn the_exchange_of_postgresql_without_a_user_name() {
    check_vector(
        client(Binding::None),
        "n,,n=,r=rOprNGfwEbeRWgbNEkqO",
        "biws",
        "qvT2SWdEH5Q06albL+hjSYuUhCG7VndFyzIb7CK4n9k=",
        "3HO6Qt1M4MKJrmlKaoOqLAI0/0TV0HZe7J9H3MBtSOg=",
    );
}

#[test]
fn the_exchange_with_channel_binding() {
    check_vector(
        client(Binding::TlsServerEndPoint((0..0x20).collect())),
        "p=tls-server-end-point,,n=,r=rOprNGfwEbeRWgbNEkqO",
        "cD10bHMtc2VydmVyLWVuZC1wb2ludCwsAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "Q8h71kjaoMzNI7dPksDrhRE/5mTUObF0fUHVIgBOWQg=",
        "ykwoqH8mLqO5AQCeuwwf6lsj9f8zyJZT/CcvAbN4Ssc=",
    );
}

#[test]
fn the_flag_that_no_binding_was_offered_is_in_both_messages() {
    let mut client = client(Binding::SupportedNotOffered);
    assert_eq!(client.client_first().unwrap(), b"y,,n=,r=rOprNGfwEbeRWgbNEkqO");
    client.handle_server_first(SERVER_FIRST.as_bytes()).unwrap();
    finish(&mut client);
    assert!(client.client_final().unwrap().body().starts_with(b"c=eSws,r="));
}

#[test]
fn a_nonce_is_24_characters_of_base64() {
    assert_eq!(ScramNonce::new([0; 18]).as_str(), "AAAAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(ScramNonce::new([0xff; 18]).as_str(), "////////////////////////");
}

fn malformed(problem: &'static str) -> ScramError {
    ScramError::Malformed { message: ScramMessage::ServerFirst, problem }
}

fn check_first(text: &str, expect: &ScramError) {
    let mut client = waiting();
    assert_eq!(client.handle_server_first(text.as_bytes()).unwrap_err(), *expect, "{text}");
    // The error is final: the right message is refused too.
    assert!(client.handle_server_first(SERVER_FIRST.as_bytes()).is_err());
    assert!(client.compute(1).is_err() && client.client_final().is_err());
}

const BAD_NONCE: &str = "nonce that is empty or not printable ASCII";

#[test]
fn a5_a_nonce_that_does_not_extend_the_clients_is_refused() {
    let mismatch = ScramError::NonceMismatch { message: ScramMessage::ServerFirst };
    check_first(&format!("r={CLIENT_NONCE},s={SALT},i=4096"), &ScramError::NonceNotExtended);
    check_first(&format!("r=x{CLIENT_NONCE}x,s={SALT},i=4096"), &mismatch);
    check_first(&format!("r=rOprNGfwEbeRWgbNEkq,s={SALT},i=4096"), &mismatch);
    check_first(&format!("r=,s={SALT},i=4096"), &malformed(BAD_NONCE));
    for bad in ["\x7f", " ", "\n", "\0", "\u{e4}"] {
        check_first(&format!("r={CLIENT_NONCE}{bad},s={SALT},i=4096"), &malformed(BAD_NONCE));
    }
}

/// CVE-2026-6665 was a long nonce.
#[test]
fn a5_a_nonce_of_1900_characters_is_accepted_and_one_above_the_message_limit_is_not() {
    let mut client = waiting();
    let long = "x".repeat(1_900);
    let text = format!("r={CLIENT_NONCE}{long},s={SALT},i=1");
    client.handle_server_first(text.as_bytes()).unwrap();
    assert_eq!(client.compute(1), Ok(ScramProgress::Done));
    assert!(client.client_final().unwrap().body().len() > 1_900);

    let long = "x".repeat(2_000);
    let text = format!("r={CLIENT_NONCE}{long},s={SALT},i=1");
    let found = text.len();
    check_first(&text, &ScramError::TooLong { message: ScramMessage::ServerFirst, found });
}

const BAD_COUNT: &str = "iteration count that is not a positive decimal number of up to 10 digits";

/// CVE-2026-42198, RUSTSEC-2026-0179.
#[test]
fn a6_an_iteration_count_that_is_malformed_or_above_the_maximum_is_refused() {
    let first = |count: &str| format!("r={CLIENT_NONCE}x,s={SALT},i={count}");
    for bad in ["", "0", "-1", "+4096", "4096x", "04096", " 1", "1e3", "12345678901"] {
        check_first(&first(bad), &malformed(BAD_COUNT));
    }
    for found in [2_000_001, 2_147_483_647, 4_294_967_297, 9_999_999_999] {
        let max = 2_000_000;
        check_first(&first(&found.to_string()), &ScramError::TooManyIterations { found, max });
    }
    let missing = malformed("missing iteration count (i=)");
    check_first(&format!("r={CLIENT_NONCE}x,s={SALT}"), &missing);
    waiting().handle_server_first(first("2000000").as_bytes()).unwrap();
    waiting().handle_server_first(first("1").as_bytes()).unwrap();

    let mut generous = client(Binding::None).iterations_max(2_000_001);
    generous.client_first().unwrap();
    generous.handle_server_first(first("2000001").as_bytes()).unwrap();
}

#[test]
fn a8_a_salt_is_strict_base64_of_1_to_1024_bytes() {
    let first = |salt: &str| format!("r={CLIENT_NONCE}x,s={salt},i=1");
    let size = malformed("salt not of 1 to 1024 bytes");
    check_first(&first(""), &size);
    check_first(&first(&"A".repeat(1_400)), &size);
    let encoding = malformed("salt that is not padded base64 without blanks");
    for bad in
        ["=", "AA", "AA=", "AAA", "AA==AA==", " AAAA", "AAAA\n", "AA AA", "AB==", "-_-_", "\0"]
    {
        check_first(&first(bad), &encoding);
    }
    for good in ["AA==", &"A".repeat(1_364)] {
        let mut client = waiting();
        client.handle_server_first(first(good).as_bytes()).unwrap();
        assert_eq!(client.compute(1), Ok(ScramProgress::Done));
    }
}

#[test]
fn extensions_and_attributes_out_of_place_are_refused() {
    let extension = ScramError::MandatoryExtension { message: ScramMessage::ServerFirst };
    check_first(&format!("m=x,{SERVER_FIRST}"), &extension);
    check_first(&format!("{SERVER_FIRST},m=x"), &extension);
    check_first(&format!("{SERVER_FIRST},x=y"), &malformed("trailing attributes"));
    check_first(&format!("{SERVER_FIRST},"), &malformed("trailing attributes"));
    check_first("", &malformed("missing nonce (r=)"));
    check_first("s=AA==,r=x,i=1", &malformed("missing nonce (r=)"));
    check_first("e=other-error", &malformed("missing nonce (r=)"));
    check_first(&format!("r={CLIENT_NONCE}x,i=1"), &malformed("missing salt (s=)"));
}

#[test]
fn a4_only_the_right_server_signature_is_accepted() {
    let check = |text: &[u8], expect: ScramError| {
        let mut client = waiting_for_final();
        assert_eq!(client.handle_server_final(text), Err(expect));
        assert!(!client.is_verified());
        assert!(client.handle_server_final(SERVER_FINAL).is_err(), "the error is final");
    };
    let malformed = |problem| ScramError::Malformed { message: ScramMessage::ServerFinal, problem };
    let of_32 = "signature that is not the base64 of 32 bytes";
    let right = std::str::from_utf8(SERVER_FINAL).unwrap();

    let other = format!("v={}", message::encode_base64(&[7; 32]));
    check(other.as_bytes(), ScramError::WrongServerSignature);
    // The signature of the exchange with a user name.
    let other = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    check(other, ScramError::WrongServerSignature);
    for bytes in [0, 1, 31, 33, 64] {
        let text = format!("v={}", message::encode_base64(&vec![7; bytes]));
        check(text.as_bytes(), malformed(of_32));
    }
    check(b"v=!!!!", malformed(of_32));
    check(right.trim_end_matches('=').as_bytes(), malformed(of_32));
    check(format!("{right},x=1").as_bytes(), malformed("trailing attributes"));
    let neither = "neither a signature (v=) nor an error (e=)";
    check(b"", malformed(neither));
    check(b"V=AAAA", malformed(neither));
    let long = [b"v=".as_slice(), &[b'A'; 2_000]].concat();
    check(&long, ScramError::TooLong { message: ScramMessage::ServerFinal, found: 2_002 });
    waiting_for_final().handle_server_final(SERVER_FINAL).unwrap();
}

#[test]
fn a4_the_servers_error_is_reported_and_escaped() {
    let refused = |text: &[u8]| waiting_for_final().handle_server_final(text).unwrap_err();
    let error = refused(b"e=invalid-proof");
    assert_eq!(error, ScramError::Refused { error: "invalid-proof".to_owned() });
    assert_eq!(error.to_string(), "server ended the SCRAM exchange: invalid-proof");
    let error = refused(b"e=\x1b[2J\r\n\xff");
    assert_eq!(error.to_string(), "server ended the SCRAM exchange: \\u{1b}[2J\\r\\n\u{fffd}");
}

#[test]
fn a_call_out_of_order_is_an_error_and_final() {
    type Call = fn(&mut ScramClient) -> Result<(), ScramError>;
    let calls: [Call; 5] = [
        |client| client.client_first().map(drop),
        |client| client.handle_server_first(SERVER_FIRST.as_bytes()),
        |client| client.compute(1).map(|_| ()),
        |client| client.client_final().map(drop),
        |client| client.handle_server_final(SERVER_FINAL),
    ];
    let computing = || {
        let mut client = waiting();
        client.handle_server_first(SERVER_FIRST.as_bytes()).unwrap();
        client
    };
    let computed = || {
        let mut client = computing();
        finish(&mut client);
        client
    };
    let verified = || {
        let mut client = waiting_for_final();
        client.handle_server_final(SERVER_FINAL).unwrap();
        client
    };
    let states: [(&dyn Fn() -> ScramClient, &[usize]); 6] = [
        (&|| client(Binding::None), &[0]),
        (&waiting, &[1]),
        (&computing, &[2]),
        (&computed, &[2, 3]),
        (&waiting_for_final, &[4]),
        (&verified, &[]),
    ];
    for (state, (make, allowed)) in states.iter().enumerate() {
        for (index, call) in calls.iter().enumerate() {
            let mut client = make();
            let outcome = call(&mut client);
            if allowed.contains(&index) {
                assert_eq!(outcome, Ok(()), "state {state}, call {index}");
                continue;
            }
            assert!(matches!(outcome, Err(ScramError::OutOfOrder { .. })), "{state}, {index}");
            assert!(!client.is_verified());
            for call in calls {
                assert!(call(&mut client).is_err());
            }
        }
    }
}

#[test]
fn truncated_and_changed_server_messages_do_not_panic_and_do_not_verify() {
    let mutations = |text: &[u8]| {
        let prefixes = (0..text.len()).map(|end| text[..end].to_vec()).collect::<Vec<_>>();
        let flips = (0..text.len() * 8).map(|bit| {
            let mut text = text.to_vec();
            text[bit / 8] ^= 1 << (bit % 8);
            text
        });
        prefixes.into_iter().chain(flips).collect::<Vec<_>>()
    };
    let mut accepted = 0;
    for text in mutations(SERVER_FIRST.as_bytes()) {
        let mut client = waiting();
        if client.handle_server_first(&text).is_ok() {
            // Another salt, nonce or count: a valid message, and other keys.
            assert!(client.compute(1).is_ok());
            accepted += 1;
        }
    }
    assert!(accepted > 100, "{accepted} of the mutations are grammatical");

    let texts = mutations(SERVER_FINAL);
    for (index, text) in texts.iter().enumerate() {
        // The key derivation before each would take long: the parser is tested with all messages, the
        // client with every eighth.
        let parsed = message::parse_server_final(text);
        assert!(parsed.is_err() || index >= SERVER_FINAL.len(), "a prefix is no signature");
        if index % 8 == 0 {
            assert!(waiting_for_final().handle_server_final(text).is_err(), "{text:x?}");
        }
    }
}
