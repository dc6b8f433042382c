//! The settings of a configuration.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::super::config::provider;
use super::server::*;
use super::zoo::{self, OTHER_ROOT, ROOT};
use crate::config::Config;
use crate::config::{SslMode, SslNegotiation};
use crate::error::ErrorKind;

#[test]
fn a_missing_file_of_authorities_is_named_if_one_is_required() {
    let directory = zoo::tempdir();
    let missing = directory.0.join("root.crt").display().to_string();
    for mode in ["verify-ca", "verify-full"] {
        let error = tls(&config(&format!("sslmode={mode} sslrootcert={missing}"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(&missing), "{error}");
        let by_default = config(&format!("sslmode={mode}"));
        let error = super::super::Tls::with_directory(&by_default, Some(&directory.0)).unwrap_err();
        assert!(error.to_string().contains(&missing), "{error}");
        let error = tls(&by_default).unwrap_err();
        assert!(error.to_string().contains("no home directory"), "{error}");
        assert!(error.hint().unwrap().contains("sslrootcert=system"), "{error}");
    }
    // As in libpq.
    for mode in ["allow", "prefer", "require"] {
        tls(&config(&format!("sslmode={mode} sslrootcert={missing}"))).unwrap();
    }
}

#[test]
fn a_malformed_file_of_authorities_is_an_error_in_every_mode() {
    let directory = zoo::tempdir();
    let good = ROOT.certificate().pem();
    let broken = good.replacen("MII", "AAA", 1);
    for (contents, words) in [
        (String::new(), "contains no certificate"),
        ("text".to_owned(), "contains no certificate"),
        (format!("{good}{broken}"), "certificate 2 in"),
        (good.replace("-----END CERTIFICATE-----", ""), "is malformed"),
    ] {
        let file = directory.file("root.crt", contents);
        for mode in ["prefer", "require", "verify-full"] {
            let error = tls(&config(&format!("sslmode={mode} sslrootcert={file}"))).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}

/// It replaces the one in the home directory.
#[tokio::test]
async fn only_the_named_file_of_authorities_is_used() {
    let [named, home] = [zoo::tempdir(), zoo::tempdir()];
    let file = named.file("root.crt", OTHER_ROOT.certificate().pem());
    home.file("root.crt", ROOT.certificate().pem());
    let config = config(&format!("sslmode=verify-ca sslrootcert={file}"));
    let tls = super::super::Tls::with_directory(&config, Some(&home.0)).unwrap();
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let mut server = Setup::good().over(theirs);
    let to = config.servers().unwrap().remove(0);
    let (result, _) =
        tokio::join!(tls.connect_over(ours, &to, [127, 0, 0, 1].into()), server.handshake());
    assert!(result.unwrap_err().to_string().contains("no authority in"));
}

/// The environment of the process is not changed by this test.
#[tokio::test]
async fn the_authority_of_the_tests_is_not_one_of_the_system() {
    let weak = Config::new().ssl_mode(SslMode::Require).ssl_root_cert("system");
    assert_eq!(tls(&weak).unwrap_err().kind(), ErrorKind::Config);
    for parameters in ["sslrootcert=system", "sslmode=verify-full sslrootcert=system"] {
        // A machine may have no list of authorities.
        let refused = match tls(&config(parameters)) {
            Err(error) => {
                assert!(error.to_string().contains("no list of authorities"), "{error}");
                continue;
            }
            Ok(_) => refusal(&Setup::good(), parameters).await,
        };
        assert!(refused.to_string().contains("the list of this system"), "{refused}");
    }
}

#[test]
fn direct_tls_needs_a_mode_that_requires_tls() {
    for mode in [SslMode::Allow, SslMode::Prefer] {
        let config = Config::new().host("localhost").ssl_mode(mode);
        let config = config.ssl_negotiation(SslNegotiation::Direct);
        assert_eq!(tls(&config).unwrap_err().kind(), ErrorKind::Config);
    }
    let direct = Config::new().ssl_negotiation(SslNegotiation::Direct);
    assert_eq!(tls(&direct).unwrap_err().kind(), ErrorKind::Config);
    tls(&config("sslmode=require sslnegotiation=direct")).unwrap();
}

fn own() -> ClientConfig {
    own_with(provider().unwrap())
}

/// Returns a configuration of the user's own.
pub(super) fn own_with(provider: Arc<CryptoProvider>) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    let root = ROOT.certificate().pem().as_bytes();
    roots.add(CertificateDer::from_pem_slice(root).unwrap()).unwrap();
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

pub(super) async fn with_own(
    setup: &Setup,
    parameters: &str,
    client: ClientConfig,
) -> Result<super::super::Secured<tokio::io::DuplexStream>, crate::Error> {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let mut server = setup.over(theirs);
    let config = config(parameters).rustls_0_23(Arc::new(client));
    let (result, _) = tokio::join!(connect(&config, ours), server.handshake());
    if let Ok(secured) = &result {
        assert_eq!(server.connection.alpn_protocol(), Some(&b"postgresql"[..]), "{secured:?}");
    }
    result
}

#[tokio::test]
async fn the_users_own_configuration_decides_what_is_verified() {
    let stranger = OTHER_ROOT.issue(&pgbell_testkit::Leaf::server("localhost")).unwrap();
    let stranger = Setup::new(&stranger);
    let mut client = own();
    client.alpn_protocols = vec![b"h2".to_vec()];
    // Although `require` itself verifies nothing, and the named file does not exist.
    let parameters = "sslmode=require sslrootcert=/nonexistent";
    with_own(&Setup::good(), parameters, client).await.unwrap();
    let error = with_own(&stranger, parameters, own()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls);
    assert!(format!("{error:#}").contains("UnknownIssuer"), "{error:#}");
    let error = with_own(&Setup::good(), "host=other sslmode=require", own()).await.unwrap_err();
    assert!(format!("{error:#}").contains("other"), "{error}");
    // A parameter that still applies.
    let asking = Setup { asks: Some(false), ..Setup::good() };
    let error = with_own(&asking, "sslmode=require sslcertmode=require", own()).await.unwrap_err();
    assert!(error.to_string().contains("sslcertmode=require"), "{error}");
}

#[test]
fn debug_of_a_configuration_does_not_show_the_users_own_configuration_of_rustls() {
    let config = Config::new().rustls_0_23(Arc::new(own()));
    let shown = format!("{config:?}");
    assert!(shown.contains("rustls_0_23: set") && !shown.contains("::"), "{shown}");
}

#[tokio::test]
async fn files_are_read_in_a_thread_for_blocking_operations() {
    let loaded = super::super::Tls::load(&config("sslmode=require")).await;
    assert!(loaded.is_ok(), "{loaded:?}");
    let error =
        super::super::Tls::load(&config("sslmode=verify-ca sslrootcert=/nonexistent")).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Config);
}

/// Of two providers that are compiled in, ring is used; rustls' own choice would panic.
#[cfg(feature = "tls-ring")]
#[test]
fn ring_is_used_if_two_providers_are_compiled_in() {
    let provider = provider().unwrap();
    assert!(
        format!("{:?}", provider.secure_random).to_lowercase().contains("ring"),
        "{provider:?}"
    );
}
