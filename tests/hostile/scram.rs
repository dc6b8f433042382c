//! The server's part of SCRAM for scripts: valid, or wrong in one place.

use bytes::Bytes;
use pgbell::proto::auth::{Password, ScramNonce, ScramServer, ScramVerdict, ScramVerifier};
use pgbell::testing::Script;

use super::attack::message;
use super::client::PASSWORD;

/// AuthenticationSASL with SCRAM-SHA-256 alone.
pub(crate) const SASL: &str = "52 00000017 0000000a 534352414d2d5348412d32353600 00";

/// The same with SCRAM-SHA-256-PLUS before it.
pub(crate) const SASL_PLUS: &str = "52 0000002a 0000000a 534352414d2d5348412d3235362d504c555300 \
                                    534352414d2d5348412d32353600 00";

/// Up to the client's first message.
pub(crate) fn begun() -> Script {
    Script::new().expect_startup().send_hex(SASL).expect_message(b'p')
}

/// Up to the client's last message, which a genuine server would accept.
pub(crate) fn answered(verifier: &ScramVerifier) -> Script {
    begun().send_with(first(verifier)).expect_message(b'p')
}

/// A verifier of the planted password.
pub(crate) fn verifier(iterations: u32) -> ScramVerifier {
    ScramVerifier::from_password(&Password::new(PASSWORD), b"salt", iterations).unwrap()
}

pub(crate) fn request(code: u32, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes()[..], data].concat())
}

/// The client's part of the nonce, from SASLInitialResponse.
pub(crate) fn nonce(received: &[Bytes]) -> String {
    let text = String::from_utf8(client_first(received).to_vec()).unwrap();
    text.split_once(",r=").unwrap().1.to_owned()
}

/// AuthenticationSASLContinue with the text that `text` makes from the client's nonce.
pub(crate) fn challenge(
    text: impl Fn(&str) -> String + Send + Sync + 'static,
) -> impl Fn(&[Bytes]) -> Vec<u8> + Send + Sync + 'static {
    move |received| request(11, text(&nonce(received)).as_bytes())
}

/// The first message of a genuine server.
pub(crate) fn first(
    verifier: &ScramVerifier,
) -> impl Fn(&[Bytes]) -> Vec<u8> + Send + Sync + 'static {
    let verifier = verifier.clone();
    move |received| {
        let mut server = ScramServer::new(verifier.clone(), ScramNonce::new([9; 18]));
        request(11, &server.handle_client_first(client_first(received)).unwrap())
    }
}

/// The last text of a genuine server: `v=…`.
pub(crate) fn signature(verifier: &ScramVerifier, received: &[Bytes]) -> Vec<u8> {
    let mut server = ScramServer::new(verifier.clone(), ScramNonce::new([9; 18]));
    server.handle_client_first(client_first(received)).unwrap();
    match server.handle_client_final(&received[2][5..]).unwrap() {
        ScramVerdict::Accepted(text) => text,
        ScramVerdict::Refused(text) => panic!("{}", text.escape_ascii()),
    }
}

/// The bytes behind the name of the mechanism and the length of the text.
fn client_first(received: &[Bytes]) -> &[u8] {
    let at = received[1].windows(3).position(|part| part == b",,n").unwrap();
    let begin =
        received[1][..at].iter().rposition(|byte| matches!(byte, b'n' | b'y' | b'p')).unwrap();
    &received[1][begin..]
}
