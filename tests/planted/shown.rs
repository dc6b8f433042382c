//! `Debug` and `Display` of every type that holds a secret, at every step of a login.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use pgbell::config::{PassFile, ServiceFile};
use pgbell::proto::auth::scram::Binding;
use pgbell::proto::auth::{
    AuthPolicy, AuthStep, Authenticator, Credentials, Password, ScramClient, ScramNonce,
    ScramServer, ScramVerifier,
};
use pgbell::proto::session::{Login, Session};
use pgbell::proto::wire::{
    Authentication, BackendKeyData, BackendMessage, FirstPacket, Framer, FrontendMessage,
    PasswordMessage, ProtocolVersion, SaslInitialResponse, SaslResponse, StartupPacket,
};
use pgbell::testing::{Auth, Backend, BackendConfig, Link, Script, Server};
use pgbell::{Config, Connection, Error, Listener, Notifier};

use crate::search;

const PASSWORD: &str = "pl4nted with pencil";
const KEY: &[u8] = b"pl4nted key";

macro_rules! show {
    ($($value:expr),+ $(,)?) => {
        $(search(stringify!($value), &format!("{0:?} {0:#?}", $value));)+
    };
}

fn credentials() -> Credentials {
    Credentials::new("bob").unwrap().password(Password::new(PASSWORD)).unwrap()
}

/// The random bytes are as secret as the nonce made of them.
fn nonce() -> ScramNonce {
    ScramNonce::new(*b"pl4nted nonces. 18")
}

fn login() -> Login {
    let deadline = Instant::now() + Duration::from_secs(60);
    Login::new(credentials(), nonce(), deadline)
        .policy(AuthPolicy::default().allow_cleartext(true).scram_iterations_min(1))
        .protocol(ProtocolVersion::V3_2)
}

fn error(text: &str, error: &dyn std::error::Error) {
    search(text, &format!("{error} {error:#} {error:?} {error:#?}"));
    if let Some(source) = error.source() {
        self::error(text, source);
    }
}

#[test]
fn configurations_files_and_their_errors() {
    let provider = |_| async { Ok::<_, Infallible>(PASSWORD.to_owned()) };
    let config = Config::new().user("bob").password(PASSWORD).password_provider(provider);
    let parsed: Config = "postgres://bob:pl4nted@h/db?password=pencil".parse().unwrap();
    let passfile = PassFile::new(format!("*:*:*:*:{PASSWORD}"));
    let text = format!("[a]\npassword={PASSWORD}\n[b]\nx={PASSWORD}\n{PASSWORD}");
    let service = ServiceFile::new(text.as_bytes());
    show!(config, parsed, passfile, service, service.service("a").unwrap());
    for config in [&config, &parsed] {
        search("Display of a configuration", &config.to_string());
    }
    show!(passfile.password(&parsed.servers().unwrap()[0], "db", "bob"));
    error("a service", &service.service("b").unwrap_err());
    for text in [
        "postgres://bob:pl4nted@pencil@h",
        "postgres://bob:pl4nted",
        "postgres://bob@h?pl4nted=pencil",
        "password=a pl4nted",
        "password=a sslmode=pl4nted",
        "host=pl4nted@pencil",
        "dbname='password=pl4nted'",
    ] {
        error("a connection string", &text.parse::<Config>().unwrap_err());
    }
}

/// The SCRAM exchange, both sides, and the messages with a password in clear and with MD5.
#[test]
fn authenticators_and_their_messages() {
    show!(Password::new(PASSWORD), credentials(), nonce(), login());
    let verifier = ScramVerifier::from_password(&Password::new(PASSWORD), KEY, 1).unwrap();
    let client = ScramClient::new(nonce(), &Password::new(PASSWORD), Binding::None).unwrap();
    let mut client = client.iterations_min(1);
    let mut server = ScramServer::new(verifier.clone(), nonce());
    show!(verifier, client, server);
    let first = client.client_first().unwrap();
    let answer = server.handle_client_first(&first).unwrap();
    show!(client, server);
    client.handle_server_first(&answer).unwrap();
    show!(client);
    while client.compute(1).unwrap() == pgbell::proto::auth::scram::ScramProgress::More {}
    show!(client);
    let last = client.client_final().unwrap();
    show!(client, last);
    let _ = server.handle_client_final(last.body());
    show!(server);

    for request in
        [Authentication::CleartextPassword, Authentication::Md5Password { salt: *b"pl4n" }]
    {
        let policy = AuthPolicy::default().allow_cleartext(true);
        let mut authenticator = Authenticator::new(credentials(), policy.clone(), nonce());
        show!(authenticator);
        let step = authenticator.handle(&request).unwrap();
        show!(step, authenticator);
        let AuthStep::Send(response) = step else { panic!("nothing to send") };
        assert!(!response.body().is_empty());
        // Refused: the error contains the reason, and not the data.
        let mut authenticator = Authenticator::new(
            credentials(),
            policy.require_auth("scram-sha-256".parse().unwrap()),
            nonce(),
        );
        error("a refusal", &authenticator.handle(&request).unwrap_err());
        show!(authenticator);
    }
    error(
        "a NUL",
        &Credentials::new("a").unwrap().password(Password::new("pl4nted\0")).unwrap_err(),
    );
}

#[test]
fn messages_of_the_protocol_that_hold_passwords_and_keys() {
    let (bytes, process_id) = (PASSWORD.as_bytes(), 7);
    let sql = "ALTER ROLE bob PASSWORD 'pl4nted'";
    show!(
        PasswordMessage(bytes),
        SaslInitialResponse { mechanism: "SCRAM-SHA-256", data: Some(bytes) },
        SaslResponse(bytes),
        FrontendMessage::Password(bytes),
        FrontendMessage::Query(sql),
        BackendKeyData { process_id, secret_key: KEY },
        BackendMessage::BackendKeyData(BackendKeyData { process_id, secret_key: KEY }),
        BackendMessage::Authentication(Authentication::SaslContinue(bytes)),
        BackendMessage::Authentication(Authentication::SaslFinal(bytes)),
        StartupPacket::CancelRequest { process_id, secret_key: KEY },
    );
    let mut out = BytesMut::new();
    StartupPacket::CancelRequest { process_id, secret_key: KEY }.encode(&mut out).unwrap();
    show!(FirstPacket::next(&out).unwrap());
    out.clear();
    PasswordMessage(bytes).encode(&mut out).unwrap();
    show!(Framer::frontend().next(&out).unwrap());
    error("a decoder", &PasswordMessage::decode(bytes).unwrap_err());
    error("a decoder", &SaslInitialResponse::decode(bytes).unwrap_err());
}

/// Prints a session and the testing backend after every transmitted byte.
#[test]
fn sessions_and_backends_at_every_step_of_a_login() {
    for (auth, password) in [
        (Auth::Trust, PASSWORD),
        (Auth::Password, PASSWORD),
        (Auth::Md5, PASSWORD),
        (Auth::ScramSha256, PASSWORD),
        (Auth::Password, "pl4nted, but another"),
        (Auth::ScramSha256, "pl4nted, but another"),
    ] {
        let config = BackendConfig::new().auth(auth).user("bob", password).scram_iterations(1);
        show!(config);
        let mut backend = Backend::new(config);
        let session = Session::new(login()).unwrap();
        let mut link = Link::new(session, &mut backend, Instant::now()).chunks([1]);
        show!(backend, link, link.session());
        for _ in 0..10 {
            if let Some(failed) = link.settle(&mut backend) {
                error("a link", failed);
            }
            show!(backend, link, link.session(), link.session().cancel_key());
        }
    }
}

/// The types that users hold, and every error of a refused login.
#[tokio::test]
async fn clients_and_the_errors_of_logins() {
    for auth in [Auth::Password, Auth::Md5, Auth::ScramSha256] {
        let config = BackendConfig::new().auth(auth).user("bob", PASSWORD).scram_iterations(1);
        let server = Server::start(config).await.unwrap();
        let port = server.address().port();
        let config = Config::new().host("127.0.0.1").port(port).user("bob").dbname("db");
        let config = config.require_auth("password,md5,scram-sha-256").scram_iterations_min(1);
        let right = config.clone().password(PASSWORD);
        let connection = Connection::connect(&right).await.unwrap();
        let builder = Listener::builder(&right);
        let listener = Listener::connect(&right).await.unwrap();
        let notifier = Notifier::connect(&right).await.unwrap();
        show!(server, connection, builder, listener, listener.handle(), notifier);
        for wrong in [
            config.clone().password("pl4nted, but wrong"),
            config.clone().password("pl4nted\u{ad}, but wrong \u{e9}"),
            config.clone(),
            right.clone().require_auth("none"),
            right.clone().user("pl4nt"),
            right.clone().password_provider(|_| async { Ok::<_, Infallible>("plugh") }),
        ] {
            let refused: [Error; 3] = [
                Connection::connect(&wrong).await.unwrap_err(),
                Listener::connect(&wrong).await.unwrap_err(),
                Notifier::connect(&wrong).await.unwrap_err(),
            ];
            for refused in refused {
                error("a login", &refused);
            }
        }
    }
}

/// A script that receives another message than the one it expects.
#[test]
fn a_mismatch_with_a_password_message() {
    let mut sent = BytesMut::new();
    PasswordMessage(PASSWORD.as_bytes()).encode(&mut sent).unwrap();
    for script in [
        Script::new().expect_message(b'Q'),
        Script::new().expect(b"Q\0\0\0\x04"),
        Script::new().expect(b"p\0\0\0\x0bpl4nted\0"),
        Script::new().wait_for_eof(),
    ] {
        let mut script = script;
        let mismatch = script.step(&mut sent.clone()).unwrap_err();
        error("a mismatch", &mismatch);
    }
}
