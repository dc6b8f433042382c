//! Tests of the server, and of client and server together.

use proptest::prelude::*;

use super::super::message::parse_iterations;
use super::*;

/// The verifier that `CREATE ROLE … PASSWORD 'pencil'` would store with the salt of RFC 7677.
const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

#[test]
fn the_server_parses_postgresqls_text_format() {
    let stored = ScramVerifier::parse(VERIFIER).unwrap();
    let mut server = ScramServer::new(stored, ScramNonce::from_text(SERVER_NONCE));
    let reply = server.handle_client_first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
    assert_eq!(reply, SERVER_FIRST.as_bytes());
    let verdict = server.handle_client_final(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
          p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    );
    let signature = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".to_vec();
    assert_eq!(verdict, Ok(ScramVerdict::Accepted(signature)));
}

#[test]
fn a_verifier_with_a_missing_or_invalid_part_is_refused() {
    for end in 0..VERIFIER.len() {
        assert!(ScramVerifier::parse(&VERIFIER[..end]).is_none(), "{end} characters");
    }
    for bad in [
        VERIFIER.replace("256", "512"),
        VERIFIER.replace("4096", "0"),
        VERIFIER.replace("4096", "04096"),
        VERIFIER.replace(SALT, ""),
        VERIFIER.replace("WG5d", "WG5"),
        format!("{VERIFIER} "),
        "md5bb41a296aab6baccb36ff243a562abff".to_owned(),
    ] {
        assert!(ScramVerifier::parse(&bad).is_none(), "{bad}");
    }
}

#[test]
fn the_server_refuses_channel_binding_extensions_and_malformed_first_messages() {
    let refuse = |text: &str| server("pencil", 1).handle_client_first(text.as_bytes()).unwrap_err();
    assert!(matches!(
        refuse("p=tls-server-end-point,,n=,r=abc"),
        ScramError::ChannelBinding { .. }
    ));
    assert!(matches!(refuse("n,,m=x,n=,r=abc"), ScramError::MandatoryExtension { .. }));
    for bad in ["", "n", "x,,n=,r=abc", "n,a=me,n=,r=abc", "n,,r=abc", "n,,n=,r=", "n,,n=,r=a,x=y"]
    {
        let malformed = |error| {
            matches!(error, ScramError::Malformed { message: ScramMessage::ClientFirst, .. })
        };
        assert!(malformed(refuse(bad)), "{bad}");
    }
}

/// Runs one exchange, in which `tamper` changes the client-final-message.
fn exchange(
    mut client: ScramClient,
    mut server: ScramServer,
    tamper: impl Fn(Vec<u8>) -> Vec<u8>,
) -> Result<bool, ScramError> {
    let reply = server.handle_client_first(&client.client_first()?)?;
    client.handle_server_first(&reply)?;
    finish(&mut client);
    let last = client.client_final()?;
    match server.handle_client_final(&tamper(last.body().to_vec()))? {
        ScramVerdict::Accepted(text) => client.handle_server_final(&text).map(|()| true),
        ScramVerdict::Refused(text) => {
            let error = "invalid-proof".to_owned();
            assert_eq!(client.handle_server_final(&text), Err(ScramError::Refused { error }));
            Ok(false)
        }
    }
}

#[test]
fn the_server_refuses_a_final_message_that_was_changed() {
    let run = |tamper: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        exchange(client(Binding::None), server("pencil", 2), tamper)
    };
    let replace = |from: &'static str, to: &'static str| {
        run(&|text| String::from_utf8(text).unwrap().replacen(from, to, 1).into_bytes())
    };
    assert_eq!(run(&|text| text), Ok(true));
    assert!(matches!(replace("biws", "eSws"), Err(ScramError::ChannelBinding { .. })));
    assert!(matches!(replace("r=rOpr", "r=rOpR"), Err(ScramError::NonceMismatch { .. })));
    assert!(matches!(replace(",p=", ",x=y,p="), Err(ScramError::Malformed { .. })));
    assert_eq!(
        run(&|text| {
            let proof = [b",p=", message::encode_base64(&[0; 32]).as_bytes()].concat();
            let at = text.windows(3).position(|part| part == b",p=").unwrap();
            [&text[..at], &proof].concat()
        }),
        Ok(false)
    );
}

#[test]
fn debug_shows_no_secret() {
    let secrets = ["pencil", SALT, CLIENT_NONCE, SERVER_NONCE, "WG5d8oPm", "wfPLwcE6"];
    let mut shown = vec![
        format!("{:?}", ScramVerifier::parse(VERIFIER)),
        format!("{:?}", server("pencil", 1)),
        format!("{:?}", ScramNonce::from_text(CLIENT_NONCE)),
        format!("{:#?}", client(Binding::None)),
        format!("{:#?}", waiting()),
        format!("{:#?}", waiting_for_final()),
    ];
    let mut computing = waiting();
    computing.handle_server_first(SERVER_FIRST.as_bytes()).unwrap();
    shown.push(format!("{computing:?}"));
    finish(&mut computing);
    shown.push(format!("{computing:?}"));
    shown.push(format!("{:?}", computing.client_final()));
    for text in &shown {
        assert!(secrets.iter().all(|secret| !text.contains(secret)), "{text}");
        assert!(!text.contains("p=") && !text.contains("112, 61"), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_exchange_succeeds_only_with_equal_passwords(
        password in "[ -~]{1,80}",
        other in "[ -~]{1,80}",
        salt in proptest::collection::vec(any::<u8>(), 1..100),
        iterations in 1_u32..40,
        nonces in any::<([u8; 18], [u8; 18])>(),
        step in 1_u32..50,
        offered in any::<bool>(),
    ) {
        for given in [&password, &other] {
            let given_password = Password::new(given.as_str());
            let binding =
                if offered { Binding::SupportedNotOffered } else { Binding::None };
            let mut client =
                ScramClient::new(ScramNonce::new(nonces.0), &given_password, binding).unwrap().iterations_min(1);
            let stored = Password::new(password.as_str());
            let verifier = ScramVerifier::from_password(&stored, &salt, iterations).unwrap();
            let mut server = ScramServer::new(verifier, ScramNonce::new(nonces.1));

            let reply = server.handle_client_first(&client.client_first().unwrap()).unwrap();
            client.handle_server_first(&reply).unwrap();
            let mut calls = 1;
            while client.compute(step).unwrap() == ScramProgress::More {
                calls += 1;
            }
            prop_assert_eq!(calls, iterations.div_ceil(step));
            let last = client.client_final().unwrap();
            match server.handle_client_final(last.body()).unwrap() {
                ScramVerdict::Accepted(text) => {
                    prop_assert_eq!(given, &password);
                    prop_assert_eq!(client.handle_server_final(&text), Ok(()));
                }
                ScramVerdict::Refused(_) => prop_assert_ne!(given, &password),
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_as_any_message(
        text in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        prop_assert!(waiting().handle_server_first(&text).is_err());
        prop_assert!(message::parse_server_final(&text).is_err());
        let mut server = server("pencil", 1);
        prop_assert!(server.handle_client_first(&text).is_err());
        prop_assert!(server.handle_client_final(&text).is_err());
    }

    #[test]
    fn iteration_counts_are_parsed(count in 1_u64..10_000_000_000) {
        let digits = count.to_string();
        let read = parse_iterations(digits.as_bytes(), ScramMessage::ServerFirst);
        prop_assert_eq!(read, Ok(count));
    }
}
