//! The hints of errors that a user meets: each is reached through a public function, and says what to do.
//! `tests/notes/hints.rs` checks that no hint is without a test.

use pgbell::testing::{Auth, BackendConfig, Proxy, Server};
use pgbell::{Config, Connection, Error, ErrorKind, Listener, Notifier};
use tokio::io::AsyncWriteExt;

use crate::support::{let_listen, listener, message, read_message, soon};

/// The password of the role that the servers of these tests have.
const PASSWORD: &str = "pl4nted";

async fn server(config: BackendConfig) -> Server {
    Server::start(config.user("bob", PASSWORD)).await.unwrap()
}

/// The error of a connection to the server, with these parameters besides.
async fn refusal(server: &Server, parameters: &str) -> Error {
    let url = format!("{}&{parameters}", server.url());
    soon(Connection::connect(&*url)).await.unwrap_err()
}

#[track_caller]
fn check(error: &Error, kind: ErrorKind, hint: &str) {
    assert_eq!((error.kind(), error.hint()), (kind, Some(hint)), "{error:#}");
    assert!(error.to_string().ends_with(&format!("(hint: {hint})")), "{error}");
}

#[tokio::test]
async fn a_port_without_a_server_has_a_hint() {
    let server = server(BackendConfig::new()).await;
    let url = server.url();
    server.stop().await;
    let error = soon(Connection::connect(&*url)).await.unwrap_err();
    let hint =
        "is the server running, and listening at this address? (listen_addresses, port, firewall)";
    check(&error, ErrorKind::Connect, hint);
}

#[cfg(unix)]
#[tokio::test]
async fn a_directory_without_a_socket_has_a_hint() {
    let config = Config::new().host("/nonexistent/pgbell").user("bob");
    let error = soon(Connection::connect(config)).await.unwrap_err();
    let hint = "is the server running, and is its socket in this directory? (unix_socket_directories, port) \
                `host` can name another directory, and host=localhost uses TCP";
    check(&error, ErrorKind::Connect, hint);
}

#[tokio::test]
async fn a_service_that_is_in_no_file_has_a_hint() {
    let path = std::env::temp_dir().join(format!("pgbell-service-{}", std::process::id()));
    std::fs::write(&path, "[other]\nhost=localhost\n").unwrap();
    let config = Config::new().service("shop").service_file(path.to_str().unwrap());
    let error = soon(Connection::connect(config)).await.unwrap_err();
    std::fs::remove_file(&path).unwrap();
    let hint = "services are looked for in servicefile, else PGSERVICEFILE, else ~/.pg_service.conf; \
                then in pg_service.conf of PGSYSCONFDIR";
    check(&error, ErrorKind::Config, hint);
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn a_server_without_tls_has_a_hint() {
    let server = server(BackendConfig::new()).await;
    let url = server.url().replace("sslmode=disable", "sslmode=require");
    let error = soon(Connection::connect(&*url)).await.unwrap_err();
    let hint =
        "set `ssl = on` and a certificate in postgresql.conf, or require no TLS: sslmode=prefer";
    check(&error, ErrorKind::Tls, hint);
}

#[tokio::test]
async fn methods_of_authentication_that_are_refused_have_a_hint() {
    let password = format!("password={PASSWORD}");
    let of_trust = "trust, peer, ident and cert look like this, and so does an impostor of the server: \
                    change pg_hba.conf, or allow it with require_auth=none";
    let of_method = "pg_hba.conf and the form in which the role's password is stored decide the method: \
                     change them, or allow the method in require_auth";
    let of_cleartext = "use TLS (sslmode=verify-full), give the role scram-sha-256, or allow it with \
                        require_auth=password";
    for (auth, parameters, hint) in [
        (Auth::Trust, format!("{password}&require_auth=scram-sha-256"), of_trust),
        (Auth::Md5, format!("{password}&require_auth=scram-sha-256"), of_method),
        (Auth::Password, password.clone(), of_cleartext),
    ] {
        let server = server(BackendConfig::new().auth(auth)).await;
        let error = refusal(&server, &parameters).await;
        check(&error, ErrorKind::Auth, hint);
    }
}

#[tokio::test]
async fn numbers_of_iterations_that_are_refused_have_a_hint() {
    let weak = BackendConfig::new().auth(Auth::ScramSha256).scram_iterations(1_000);
    let error = refusal(&server(weak).await, &format!("password={PASSWORD}")).await;
    let hint = "set the role's password again with scram_iterations of at least 4096, or lower \
                scram_iterations_min; an impostor of the server looks like this too";
    check(&error, ErrorKind::Auth, hint);

    let strong = BackendConfig::new().auth(Auth::ScramSha256).scram_iterations(10_000);
    let parameters = format!("password={PASSWORD}&scram_iterations_max=5000");
    let error = refusal(&server(strong).await, &parameters).await;
    let hint = "raise scram_iterations_max, and connect_timeout if they take long";
    check(&error, ErrorKind::Auth, hint);
}

#[tokio::test]
async fn a_standby_has_a_hint_at_the_connect_and_at_a_listen() {
    let server = server(BackendConfig::new().parameter("in_hot_standby", "on")).await;
    let error = soon(Listener::connect(server.url())).await.unwrap_err();
    let hint = "LISTEN needs the primary: set host to it, or to several hosts, of which the primary is chosen";
    check(&error, ErrorKind::Standby, hint);

    let mut connection = Connection::connect(server.url()).await.unwrap();
    let error = soon(connection.listen("orders")).await.unwrap_err();
    let hint = "LISTEN and NOTIFY need the primary: connect to it, or promote this server";
    check(&error, ErrorKind::Standby, hint);
}

#[tokio::test]
async fn poolers_that_are_refused_have_a_hint() {
    let no_second = BackendConfig::new().proxy(Proxy::NoKey).sessions_max(1);
    let error = soon(Listener::connect(server(no_second).await.url())).await.unwrap_err();
    let hint =
        "give the pool one more connection, or choose another proof with Config::delivery_proof";
    check(&error, ErrorKind::Pooler, hint);

    let one_session = BackendConfig::new().proxy(Proxy::OneSession);
    let error = soon(Listener::connect(server(one_session).await.url())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Pooler, "{error:#}");
    let hint = error.hint().unwrap_or_default();
    assert!(
        hint.starts_with("connect directly to the server, or to a pool with pool_mode = session"),
        "{error}"
    );
}

#[tokio::test]
async fn a_listen_inside_a_transaction_has_a_hint() {
    let server = server(BackendConfig::new()).await;
    let mut connection = Connection::connect(server.url()).await.unwrap();
    connection.simple_query("BEGIN").await.unwrap();
    let error = soon(connection.listen("a")).await.unwrap_err();
    check(&error, ErrorKind::Misuse, "end the transaction first");
}

/// Another client of a pooler has begun it.
#[tokio::test]
async fn a_listen_that_is_answered_inside_a_transaction_has_a_hint() {
    let (server, url) = listener().await;
    let serve = async {
        let mut socket = let_listen(&server).await;
        read_message(&mut socket, b'Q').await;
        let answer = [message(b'C', b"LISTEN\0"), message(b'Z', b"T")].concat();
        socket.write_all(&answer).await.unwrap();
        socket
    };
    let listen = async {
        let mut connection = Connection::connect(&*url).await.unwrap();
        connection.listen("a").await.unwrap_err()
    };
    let (error, _socket) = soon(async { tokio::join!(listen, serve) }).await;
    let hint = "a pooler or a proxy has begun one: connect directly to the server";
    check(&error, ErrorKind::Pooler, hint);
}

#[tokio::test]
async fn a_nudge_for_one_channel_too_many_has_a_hint() {
    let server = server(BackendConfig::new()).await;
    let notifier = Notifier::connect(server.url()).await.unwrap();
    for channel in 0..1_024 {
        notifier.nudge(&channel.to_string(), "1");
    }
    assert!(notifier.last_nudge_error().is_none());
    notifier.nudge("another", "1");
    let hint =
        "use few channels, and keys for the rest: LISTEN for many channels is expensive, too";
    check(&notifier.last_nudge_error().unwrap(), ErrorKind::Misuse, hint);
}
