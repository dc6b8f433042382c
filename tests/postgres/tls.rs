//! TLS with the installed server.

use std::time::Duration;

use pgbell::config::SslMode;
use pgbell::proto::auth::AuthMethod;
use pgbell::{Config, Connection, ErrorKind, Listener};
use pgbell_testkit::{Auth, Ca, Certificates, Key, Leaf, Mode, Signature, Tls};

use crate::support::{Server, run, value};

/// The query for whether the server encrypts the session.
const IS_ON: &str = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

fn localhost() -> Leaf {
    Leaf::server("localhost").ip_address([127, 0, 0, 1])
}

/// P1.
#[test]
fn each_sslmode_encrypts_as_documented_with_and_without_tls_on_the_server() {
    let certificates = Certificates::new().unwrap();
    let root = certificates.authority("root").unwrap();
    let with = Server::with(|builder| builder.tls(&root.issue(&localhost()).unwrap()));
    let without = Server::start();
    let root = root.certificate().path().to_str().unwrap();
    run(async {
        for (mode, on_with, on_without) in [
            (SslMode::Disable, Some("false"), Some("false")),
            (SslMode::Allow, Some("false"), Some("false")),
            (SslMode::Prefer, Some("true"), Some("false")),
            (SslMode::Require, Some("true"), None),
            (SslMode::VerifyCa, Some("true"), None),
            (SslMode::VerifyFull, Some("true"), None),
        ] {
            for (server, expected) in [(&with, on_with), (&without, on_without)] {
                let config: Config = server.url().parse().unwrap();
                let config = config.ssl_mode(mode).ssl_root_cert(root);
                match Connection::connect(config).await {
                    Ok(mut connection) => {
                        assert_eq!(Some(value(&mut connection, IS_ON).await.as_str()), expected);
                        // DER begins with a sequence.
                        let is_der = |der: &&[u8]| der.starts_with(&[0x30]);
                        let certificates = connection.peer_certificates();
                        assert!(certificates.iter().all(is_der));
                        assert_eq!(certificates.is_empty(), expected == Some("false"));
                    }
                    // T3.
                    Err(error) => {
                        assert_eq!(expected, None, "{mode}: {error}");
                        assert_eq!(error.kind(), ErrorKind::Tls);
                        assert!(format!("{error:#}").contains(mode.as_str()), "{error}");
                    }
                }
            }
        }
    });
}

/// Each attempt counts against the role, and the second one would use a connection without encryption.
#[test]
fn a_wrong_password_under_tls_is_not_sent_again_in_the_clear() {
    let certificates = Certificates::new().unwrap();
    let root = certificates.authority("root").unwrap();
    let server = Server::with(|builder| {
        builder
            .hba("hostssl all eve 127.0.0.1/32 reject")
            .auth(Auth::ScramSha256)
            .init_sql(
                "CREATE ROLE bob LOGIN PASSWORD 'pencil'; CREATE ROLE eve LOGIN PASSWORD 'pencil'",
            )
            .tls(&root.issue(&localhost()).unwrap())
    });
    run(async {
        for (attempts, mode) in [(1, "prefer"), (2, "allow"), (3, "require")] {
            let url = server.cluster.url("bob", "pl4nted, but wrong", "postgres");
            let error = Connection::connect(format!("{url}?sslmode={mode}")).await.unwrap_err();
            assert_eq!(error.sqlstate(), Some("28P01"), "{mode}: {error}");
            let log = server.cluster.log();
            let failed = log.matches("FATAL:  password authentication failed").count();
            assert_eq!(failed, attempts, "{mode}: {log}");
        }
        // If the server has no rule for TLS, another rule may apply to connections in the clear.
        let url = server.cluster.url("eve", "pencil", "postgres");
        let mut connection = Connection::connect(format!("{url}?sslmode=prefer")).await.unwrap();
        assert_eq!(value(&mut connection, IS_ON).await, "false");
        let error = Connection::connect(format!("{url}?sslmode=require")).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("28000"), "{error}");
    });
}

/// A18: the server computes the hash itself. A login by SCRAM-SHA-256-PLUS succeeds only if both hashes are equal.
#[test]
fn a_login_is_bound_to_certificates_that_are_signed_in_every_way() {
    let certificates = Certificates::new().unwrap();
    let root = |key| certificates.authority(Ca::new("root").key(key)).unwrap();
    let [p256, p384, rsa] = [Key::P256, Key::P384, Key::Rsa2048].map(root);
    let server = Server::with(|builder| {
        builder
            .auth(Auth::ScramSha256)
            .init_sql("CREATE ROLE bob LOGIN PASSWORD 'pencil'")
            .tls(&p256.issue(&localhost()).unwrap())
    });
    use Signature::*;
    let of_ecdsa = [Sha1, Sha224, Sha256, Sha384, Sha512];
    let of_rsa = [Sha1, Sha224, Sha256, Sha384, Sha512, PssSha256, PssSha384, PssSha512];
    let ways = of_ecdsa.map(|way| (&p256, way)).into_iter();
    let ways = ways.chain(of_ecdsa.map(|way| (&p384, way))).chain(of_rsa.map(|way| (&rsa, way)));
    run(async {
        for (authority, way) in ways {
            let leaf = authority.issue(&localhost().signature(way)).unwrap();
            server.cluster.set_tls(&leaf).unwrap();
            let url = server.cluster.url("bob", "pencil", "postgres");
            // Without a root: rustls would not accept all of these chains.
            let url = format!("{url}?sslmode=require&channel_binding=require");
            let connection = Connection::connect(&url).await;
            let connection = connection.unwrap_or_else(|error| panic!("{way:?}: {error}"));
            assert_eq!(connection.auth_method(), Some(AuthMethod::ScramSha256Plus), "{way:?}");
        }
    });
}

/// A17, V17.
#[test]
fn a_signature_without_a_hash_permits_no_binding_and_require_fails() {
    let certificates = Certificates::new().unwrap();
    let root = certificates.authority(Ca::new("root").key(Key::Ed25519)).unwrap();
    let p256 = certificates.authority("root").unwrap();
    let server = Server::with(|builder| {
        builder
            .auth(Auth::ScramSha256)
            .init_sql("CREATE ROLE bob LOGIN PASSWORD 'pencil'")
            .tls(&root.issue(&localhost()).unwrap())
    });
    // The issuer's signature decides, not the certificate's own key.
    for (issuer, leaf, bound) in [
        (&root, localhost(), false),
        (&root, localhost().key(Key::Ed25519), false),
        (&p256, localhost().key(Key::Ed25519), true),
    ] {
        server.cluster.set_tls(&issuer.issue(&leaf).unwrap()).unwrap();
        let issuer = issuer.certificate().path().to_str().unwrap().replace('/', "%2F");
        run(async {
            let url = server.cluster.url("bob", "pencil", "postgres");
            let url = format!("{url}?sslmode=verify-full&sslrootcert={issuer}");
            let connection = Connection::connect(&url).await.unwrap();
            let expected =
                if bound { AuthMethod::ScramSha256Plus } else { AuthMethod::ScramSha256 };
            assert_eq!(connection.auth_method(), Some(expected));
            let requiring = Connection::connect(format!("{url}&channel_binding=require")).await;
            match requiring {
                Ok(_) => assert!(bound),
                Err(error) => {
                    assert!(!bound, "{error}");
                    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
                }
            }
        });
    }
}

/// T11: a server that is killed sends no close_notify.
#[test]
fn a_killed_server_under_tls_is_an_error_and_not_an_end_of_stream() {
    let certificates = Certificates::new().unwrap();
    let root = certificates.authority("root").unwrap();
    let server = Server::with(|builder| builder.tls(&root.issue(&localhost()).unwrap()));
    run(async {
        let url = format!("{}?sslmode=require", server.url());
        let builder = Listener::builder(&*url).channels(["ch"]).reconnect(false);
        let mut listener = builder.connect().await.unwrap();
        let mut connection = Connection::connect(&url).await.unwrap();
        server.cluster.kill_postmaster().unwrap();
        server.cluster.stop(Mode::Immediate).ok();
        let error = connection.simple_query("SELECT pg_sleep(60)").await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        let ended = tokio::time::timeout(Duration::from_secs(30), listener.recv()).await.unwrap();
        let error = ended.unwrap_err();
        assert!(error.is_transient(), "{error}");
    });
}

/// The server checks the client's certificate for revocation, and the client the server's.
#[test]
fn revoked_certificates_are_refused_on_both_sides() {
    let certificates = Certificates::new().unwrap();
    let root = certificates.authority("root").unwrap();
    let clients = certificates.authority("clients").unwrap();
    let leaf = root.issue(&localhost()).unwrap();
    let bob = clients.issue(&Leaf::client("bob")).unwrap();
    let server = Server::with(|builder| {
        builder
            .auth(Auth::Cert)
            .init_sql("CREATE ROLE bob LOGIN")
            .tls(Tls::new(&leaf).client_authority(&clients))
    });
    let config = |list: Option<&pgbell_testkit::RevocationList>| {
        let config: Config = server.cluster.url("bob", "", "postgres").parse().unwrap();
        let config = config
            .ssl_mode(SslMode::VerifyFull)
            .ssl_root_cert(root.certificate().path().to_str().unwrap())
            .ssl_cert(bob.path().to_str().unwrap())
            .ssl_key(bob.key_path().to_str().unwrap());
        match list {
            Some(list) => config.ssl_crl(list.path().to_str().unwrap()),
            None => config,
        }
    };
    run(async {
        let list = root.revocation_list().unwrap();
        Connection::connect(config(Some(&list))).await.unwrap();
        clients.revoke(&bob).unwrap();
        let of_clients = clients.revocation_list().unwrap();
        let tls = Tls::new(&leaf).client_authority(&clients).client_revocation_list(&of_clients);
        server.cluster.set_tls(tls).unwrap();
        let error = Connection::connect(config(None)).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Tls | ErrorKind::Connect), "{error}");
        server.cluster.set_tls(Tls::new(&leaf).client_authority(&clients)).unwrap();
        root.revoke(&leaf).unwrap();
        let list = root.revocation_list().unwrap();
        let error = Connection::connect(config(Some(&list))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls);
        assert!(format!("{error:#}").contains("is revoked"), "{error}");
    });
}
