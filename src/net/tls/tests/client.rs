//! The client's own certificate.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use pgbell_testkit::{Key, Leaf};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::super::cause;
use super::server::*;
use super::zoo::{self, CERTIFICATES, ROOT, TempDir};
use crate::error::ErrorKind;

/// Creates a directory with a certificate and its key, with libpq's default names.
fn identity(leaf: &Leaf) -> TempDir {
    let issued = ROOT.issue(leaf).unwrap();
    let directory = zoo::tempdir();
    directory.file("postgresql.crt", issued.pem());
    key_file(&directory, issued.key_pem(), 0o600);
    directory
}

fn key_file(directory: &TempDir, pem: impl AsRef<[u8]>, mode: u32) -> String {
    let path = directory.file("postgresql.key", pem);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn parameters(directory: &TempDir) -> String {
    let name = |file: &str| directory.0.join(file).display().to_string();
    format!("sslmode=require sslcert={} sslkey={}", name("postgresql.crt"), name("postgresql.key"))
}

fn asking(insists: bool) -> Setup {
    Setup { asks: Some(insists), ..Setup::good() }
}

#[tokio::test]
async fn a_certificate_is_sent_to_a_server_that_requests_one() {
    for key in [Key::P256, Key::P384, Key::Ed25519, Key::Rsa2048] {
        let directory = identity(&Leaf::client("bob").key(key));
        let expected = std::fs::read(directory.0.join("postgresql.crt")).unwrap();
        let expected = CertificateDer::from_pem_slice(&expected).unwrap();
        for tls13 in [true, false] {
            let setup = asking(true).version(tls13);
            let (result, mut server) = attempt(&setup, &parameters(&directory)).await;
            let mut secured = result.unwrap();
            assert!(secured.certificate_requested && secured.certificate_sent);
            server.send(b"welcome").await;
            assert_eq!(read_data(&mut secured.stream, 7).await, b"welcome");
            assert_eq!(
                server.connection.peer_certificates().unwrap(),
                std::slice::from_ref(&expected)
            );
        }
    }
}

/// Editors on Windows write a byte order mark.
#[tokio::test]
async fn a_byte_order_mark_before_a_certificate_or_a_key_is_ignored() {
    let directory = identity(&Leaf::client("bob"));
    let path = |file: &str| directory.0.join(file);
    for file in ["postgresql.crt", "postgresql.key"] {
        let pem = std::fs::read_to_string(path(file)).unwrap();
        for (marks, is_accepted) in [("\u{feff}", true), ("\u{feff}\u{feff}", false)] {
            std::fs::write(path(file), format!("{marks}{pem}")).unwrap();
            let result = attempt(&asking(true), &parameters(&directory)).await.0;
            let sent = result.map(|secured| secured.certificate_sent);
            assert_eq!(sent.is_ok_and(|sent| sent), is_accepted, "{file}");
        }
        std::fs::write(path(file), pem).unwrap();
    }
}

#[tokio::test]
async fn a_certificate_is_sent_only_if_it_is_requested_and_not_disabled() {
    let directory = identity(&Leaf::client("bob"));
    let with = parameters(&directory);
    for (setup, more, requested, sent) in [
        (Setup::good(), "", false, false),
        (asking(false), "", true, true),
        (asking(false), "sslcertmode=allow", true, true),
        (asking(false), "sslcertmode=disable", true, false),
        (asking(false), "sslcertmode=require", true, true),
    ] {
        let secured = attempt(&setup, &format!("{with} {more}")).await.0.unwrap();
        assert_eq!((secured.certificate_requested, secured.certificate_sent), (requested, sent));
    }
    let secured = attempt(&asking(false), "sslmode=require").await.0.unwrap();
    assert_eq!((secured.certificate_requested, secured.certificate_sent), (true, false));
}

#[tokio::test]
async fn with_sslcertmode_require_the_server_must_request_a_certificate_and_there_must_be_one() {
    let directory = identity(&Leaf::client("bob"));
    let required = format!("{} sslcertmode=require", parameters(&directory));
    let error = refusal(&Setup::good(), &required).await;
    assert_eq!(error.kind(), ErrorKind::Tls);
    assert!(error.to_string().contains("did not ask"), "{error}");
    let error = refusal(&asking(false), "sslmode=require sslcertmode=require").await;
    assert!(error.to_string().contains("there is no certificate"), "{error}");
}

#[tokio::test]
async fn the_hint_for_a_refused_certificate_names_its_file() {
    let stranger = CERTIFICATES.authority("stranger").unwrap();
    let stranger = stranger.issue(&Leaf::client("bob")).unwrap();
    let directory = identity(&Leaf::client("bob").expired());
    let strange = zoo::tempdir();
    strange.file("postgresql.crt", stranger.pem());
    key_file(&strange, stranger.key_pem(), 0o600);
    for (with, words) in [
        (parameters(&directory), "postgresql.crt"),
        (parameters(&strange), "postgresql.crt"),
        ("sslmode=require".to_owned(), "name it with sslcert"),
    ] {
        for tls13 in [true, false] {
            let (result, _server) = attempt(&asking(true).version(tls13), &with).await;
            let error = match result {
                // In TLS 1.3 the client's handshake ends before the server has checked the certificate.
                Ok(mut secured) => {
                    assert!(tls13);
                    let mut out = bytes::BytesMut::with_capacity(100);
                    let error = read(&mut secured.stream, &mut out).await.unwrap_err();
                    cause(&error).unwrap().clone()
                }
                Err(error) => error,
            };
            assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
            assert!(error.hint().unwrap().contains(words), "{error}");
        }
    }
}

#[tokio::test]
async fn a_file_that_does_not_exist_means_no_certificate() {
    let with = "sslmode=require sslcert=/nonexistent/postgresql.crt sslkey=/nonexistent/key";
    let secured = attempt(&asking(false), with).await.0.unwrap();
    assert!(!secured.certificate_sent);
    let error = attempt(&asking(true).version(false), with).await.0.unwrap_err();
    let hint = "it requires a certificate of the client: name it with sslcert and sslkey (it was searched at \
                \"/nonexistent/postgresql.crt\")";
    assert_eq!(error.hint(), Some(hint), "{error}");
}

fn refused(with: &str, kind: ErrorKind) -> String {
    let error = tls(&config(with)).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let directory = identity(&Leaf::client("bob"));
    let with = parameters(&directory);
    let key = std::fs::read(directory.0.join("postgresql.key")).unwrap();
    let file = directory.0.join("postgresql.key");
    // Only root can change the owner of a file.
    let owners: &[u32] =
        if std::os::unix::fs::chown(&file, Some(0), None).is_ok() { &[0, 1234] } else { &[1234] };
    for &owner in owners {
        let group_reads = owner == 0;
        for (mode, welcome) in [
            (0o600, true),
            (0o400, true),
            (0o640, group_reads),
            (0o440, group_reads),
            (0o660, false),
            (0o650, false),
            (0o644, false),
            (0o604, false),
            (0o601, false),
        ] {
            key_file(&directory, &key, mode);
            let _ = std::os::unix::fs::chown(&file, Some(owner), None);
            match tls(&config(&with)) {
                Ok(_) => assert!(welcome, "{owner} {mode:o}"),
                Err(error) => {
                    assert!(!welcome, "{owner} {mode:o}: {error}");
                    assert!(error.to_string().contains(&format!("{mode:04o}")), "{error}");
                    let cure = if group_reads { "use chmod 0640" } else { "use chmod 0600" };
                    assert!(error.to_string().contains(cure), "{error}");
                }
            }
            let _ = std::os::unix::fs::chown(&file, Some(0), None);
        }
    }
}

#[test]
fn a_certificate_needs_its_own_key() {
    let directory = identity(&Leaf::client("bob"));
    let other = identity(&Leaf::client("eve"));
    let certificate = directory.0.join("postgresql.crt").display().to_string();
    let found = refused(&format!("sslcert={certificate}"), ErrorKind::Config);
    assert!(found.contains("but not its key"), "{found}");
    let with = format!("sslcert={certificate} sslkey=/nonexistent/k");
    assert!(refused(&with, ErrorKind::Config).contains("\"/nonexistent/k\""));
    let key = other.0.join("postgresql.key").display().to_string();
    let found = refused(&format!("sslcert={certificate} sslkey={key}"), ErrorKind::Config);
    assert!(found.contains("not the one of the certificate"), "{found}");
    let found =
        refused(&format!("sslcert={certificate} sslkey=pkcs11:token"), ErrorKind::Unsupported);
    assert!(found.contains("engine"), "{found}");
    let found = refused(&format!("sslcert={key} sslkey={key}"), ErrorKind::Config);
    assert!(found.contains("contains no certificate"), "{found}");
    let found = refused(&format!("sslcert={} sslkey={key}", other.0.display()), ErrorKind::Config);
    assert!(found.contains("not a regular file"), "{found}");
}

#[tokio::test]
async fn encrypted_keys_are_refused_with_a_hint_and_der_is_accepted() {
    let directory = identity(&Leaf::client("bob").key(Key::Rsa2048));
    let key = directory.0.join("postgresql.key").display().to_string();
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).arg("-in").arg(&key).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let with = parameters(&directory);
    let pkcs8 = openssl(&["pkey", "-aes256", "-passout", "pass:pencil"]);
    let traditional = openssl(&["rsa", "-aes256", "-traditional", "-passout", "pass:pencil"]);
    let der = openssl(&["pkey", "-outform", "DER"]);
    for encrypted in [pkcs8, traditional] {
        key_file(&directory, encrypted, 0o600);
        let error = tls(&config(&with)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("is encrypted"), "{error}");
        let hint = "decrypt it into a file of mode 0600 that is named by sslkey: openssl pkey -in KEY -out FILE";
        assert_eq!(error.hint(), Some(hint));
    }
    key_file(&directory, der, 0o600);
    let (result, _server) = attempt(&asking(true), &with).await;
    assert!(result.unwrap().certificate_sent);
    key_file(&directory, "-----BEGIN NOTHING-----\nSECRET\n-----END NOTHING-----\n", 0o600);
    let found = refused(&with, ErrorKind::Config);
    assert!(found.contains("contains no key") && !found.contains("SECRET"), "{found}");
}

#[tokio::test]
async fn the_whole_chain_is_sent() {
    let intermediate = ROOT.intermediate("of clients").unwrap();
    let issued = intermediate.issue(&Leaf::client("bob")).unwrap();
    let directory = zoo::tempdir();
    directory.file("postgresql.crt", issued.chain_pem());
    key_file(&directory, issued.key_pem(), 0o600);
    let (result, mut server) = attempt(&asking(true), &parameters(&directory)).await;
    let mut secured = result.unwrap();
    server.send(b"welcome").await;
    assert_eq!(read_data(&mut secured.stream, 7).await, b"welcome");
    assert_eq!(server.connection.peer_certificates().unwrap().len(), 2);
}
