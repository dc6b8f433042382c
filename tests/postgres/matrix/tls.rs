//! TLS with every supported server: both versions, both ways to begin, and logins with channel binding.

use pgbell::proto::auth::AuthMethod;
use pgbell::{Connection, ErrorKind, Listener, Notifier};
use pgbell_testkit::{Auth, Certificates, Leaf, Tls, TlsVersion};

use super::on_every_version;
use crate::support::{Server, installation, next, run, value};

on_every_version! {
    both_versions_of_tls_carry_a_session
    direct_tls_is_supported_since_version_17
    a_client_can_log_in_with_a_client_certificate
}

/// The query for the TLS version of the session.
const IN_USE: &str = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// P1.
fn both_versions_of_tls_carry_a_session(major: u32) {
    let certificates = Certificates::new().unwrap();
    let root = certificates.authority("root").unwrap();
    let leaf = root.issue(&Leaf::server("localhost").ip_address([127, 0, 0, 1])).unwrap();
    let verify = format!("sslmode=verify-full&sslrootcert={}", root.certificate().path().display());
    let server = Server::with(|builder| {
        builder
            .installation(installation(major))
            .auth(Auth::ScramSha256)
            .init_sql("CREATE ROLE bob LOGIN PASSWORD 'pencil'")
            .tls(&leaf)
    });
    for (max, version) in [(TlsVersion::V1_3, "TLSv1.3"), (TlsVersion::V1_2, "TLSv1.2")] {
        server.cluster.set_tls(Tls::new(&leaf).max_version(max)).unwrap();
        run(async {
            let url = server.cluster.url("bob", "pencil", "postgres");
            for binding in ["require", "prefer", "disable"] {
                let url = format!("{url}?{verify}&channel_binding={binding}");
                let mut connection = Connection::connect(&url).await.unwrap();
                let method = match binding {
                    "disable" => AuthMethod::ScramSha256,
                    _ => AuthMethod::ScramSha256Plus,
                };
                assert_eq!(connection.auth_method(), Some(method), "{binding}");
                assert_eq!(value(&mut connection, IN_USE).await, version);
                connection.close().await;
            }
            let url = format!("{url}?{verify}");
            let mut listener = Listener::connect(&url).await.unwrap();
            listener.listen("ch").await.unwrap();
            let notifier = Notifier::connect(&url).await.unwrap();
            let long = "x".repeat(7_900);
            for round in 0..200 {
                notifier.notify("ch", format!("{round} {long}")).await.unwrap();
            }
            for round in 0..200 {
                let expected = format!("{round} {long}");
                assert_eq!(next(&mut listener).await.payload_bytes(), expected.as_bytes());
            }
            listener.close().await;
        });
    }
}

fn direct_tls_is_supported_since_version_17(major: u32) {
    let certificates = Certificates::new().unwrap();
    let root = certificates.authority("root").unwrap();
    let leaf = root.issue(&Leaf::server("localhost").ip_address([127, 0, 0, 1])).unwrap();
    let server = Server::with(|builder| builder.installation(installation(major)).tls(&leaf));
    let root = root.certificate().path().display();
    run(async {
        for mode in ["require", "verify-ca", "verify-full"] {
            let url = format!(
                "{}?sslmode={mode}&sslrootcert={root}&sslnegotiation=direct&connect_timeout=10",
                server.url()
            );
            match Connection::connect(&url).await {
                Ok(mut connection) => {
                    assert!(major >= 17, "{major}");
                    assert_eq!(value(&mut connection, IN_USE).await, "TLSv1.3");
                }
                Err(error) => {
                    assert!(major < 17, "{error}");
                    assert!(matches!(error.kind(), ErrorKind::Tls | ErrorKind::Connect), "{error}");
                }
            }
        }
    });
}

fn a_client_can_log_in_with_a_client_certificate(major: u32) {
    let certificates = Certificates::new().unwrap();
    let root = certificates.authority("root").unwrap();
    let leaf = root.issue(&Leaf::server("localhost").ip_address([127, 0, 0, 1])).unwrap();
    let [bob, eve, old] = [Leaf::client("bob"), Leaf::client("eve"), Leaf::client("bob").expired()]
        .map(|client| root.issue(&client).unwrap());
    let server = Server::with(|builder| {
        builder
            .installation(installation(major))
            .auth(Auth::Cert)
            .init_sql("CREATE ROLE bob LOGIN")
            .tls(Tls::new(&leaf).client_authority(&root))
    });
    for max in [TlsVersion::V1_3, TlsVersion::V1_2] {
        server.cluster.set_tls(Tls::new(&leaf).client_authority(&root).max_version(max)).unwrap();
        run(async {
            let attempt = async |client: Option<&pgbell_testkit::Certificate>| {
                let mut config: pgbell::Config =
                    server.cluster.url("bob", "", "postgres").parse().unwrap();
                config = config.ssl_mode(pgbell::config::SslMode::Require);
                if let Some(client) = client {
                    config = config
                        .ssl_cert(client.path().to_str().unwrap())
                        .ssl_key(client.key_path().to_str().unwrap())
                        .ssl_cert_mode(pgbell::config::SslCertMode::Require);
                }
                Connection::connect(config).await
            };
            let mut connection = attempt(Some(&bob)).await.unwrap();
            assert_eq!(value(&mut connection, "SELECT current_user").await, "bob");
            // The server reports the reason in an error message, if the startup packet has arrived.
            for client in [None, Some(&eve)] {
                let error = attempt(client).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
            }
            // Before that it sends an alert, or closes the connection before the client can read it.
            let error = attempt(Some(&old)).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Tls | ErrorKind::Connect), "{error}");
        });
    }
}
