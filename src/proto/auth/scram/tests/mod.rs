//! Tests of client and server with published vectors, with each other and with invalid messages.

use super::message::decode_base64;
use super::*;
use crate::proto::auth::Password;

mod alone;
mod together;

const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
const SERVER_FIRST: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

fn client(binding: Binding) -> ScramClient {
    let nonce = ScramNonce::from_text(CLIENT_NONCE);
    let client = ScramClient::new(nonce, &Password::new("pencil"), binding).unwrap();
    client.iterations_min(1)
}

fn server(password: &str, iterations: u32) -> ScramServer {
    let salt = decode_base64(SALT.as_bytes()).unwrap();
    let verifier = ScramVerifier::from_password(&Password::new(password), &salt, iterations);
    ScramServer::new(verifier.unwrap(), ScramNonce::from_text(SERVER_NONCE))
}

/// A client that waits for the server-first-message.
fn waiting() -> ScramClient {
    let mut client = client(Binding::None);
    client.client_first().unwrap();
    client
}

/// A client that waits for the server-final-message.
fn waiting_for_final() -> ScramClient {
    let mut client = waiting();
    client.handle_server_first(SERVER_FIRST.as_bytes()).unwrap();
    finish(&mut client);
    assert!(client.client_final().is_ok());
    client
}

fn finish(client: &mut ScramClient) {
    while client.compute(u32::MAX).unwrap() == ScramProgress::More {}
}

/// The server-final-message for [`waiting_for_final`].
const SERVER_FINAL: &[u8] = b"v=3HO6Qt1M4MKJrmlKaoOqLAI0/0TV0HZe7J9H3MBtSOg=";
