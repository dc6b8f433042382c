//! A client with an arbitrary server, and a server with an arbitrary client. Each line is a message.
#![no_main]

use pgbell::proto::auth::scram::{Binding, ScramProgress};
use pgbell::proto::auth::{Password, ScramClient, ScramNonce, ScramServer, ScramVerifier};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|&byte| byte == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let password = Password::new(next());
    let verifier = ScramVerifier::from_password(&password, b"salt", 1).unwrap();
    let mut server = ScramServer::new(verifier, ScramNonce::new([9; 18]));
    let client = ScramClient::new(ScramNonce::new([7; 18]), &password, Binding::None);
    let mut client = client.unwrap().iterations_min(1).iterations_max(64);
    client.client_first().unwrap();
    if client.handle_server_first(next()).is_ok() {
        while client.compute(1_000).unwrap() == ScramProgress::More {}
        let _ = client.client_final().unwrap();
        assert_eq!(client.handle_server_final(next()).is_ok(), client.is_verified());
    }
    let _ = server.handle_client_first(next()).map(|_| server.handle_client_final(next()));
});
