//! The hints of errors of TLS: each is reached as a user reaches it, and says what to do.

use pgbell_testkit::{Authority, Ca, Certificate, Key, Leaf};

use super::server::*;
use super::zoo::{self, CERTIFICATES, OTHER_ROOT, ROOT, TempDir};
use crate::error::{Error, ErrorKind};

fn localhost() -> Leaf {
    Leaf::server("localhost")
}

/// An authority with these extensions.
fn authority(lines: &str) -> Authority {
    CERTIFICATES.authority(Ca::new("root").extensions(lines)).unwrap()
}

/// The error of verify-full for a server of which `root` is trusted.
async fn refused_by(directory: &TempDir, root: &Authority, server: &Certificate) -> Error {
    let file = directory.file("root.crt", root.certificate().pem());
    refusal(&Setup::new(server), &format!("sslmode=verify-full sslrootcert={file}")).await
}

#[track_caller]
fn check(error: &Error, kind: ErrorKind, hint: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.hint().is_some_and(|found| found.contains(hint)), "{hint}: {error}");
}

const SIGNS: &str = "keyUsage = critical,keyCertSign,cRLSign";

#[tokio::test]
async fn the_hint_for_a_flaw_of_an_authority_says_how_to_issue_it_again() {
    let directory = zoo::tempdir();
    let of = |ca: Ca| CERTIFICATES.authority(ca).unwrap();
    let with =
        |more: &str| authority(&format!("basicConstraints = critical,CA:TRUE\n{SIGNS}\n{more}"));
    let clock = "is the clock of this machine, or of the one that made it, wrong?";
    let key = "make a new key and certificate, ECDSA on P-256 or P-384 for example";
    for (root, hint) in [
        (of(Ca::new("root").expired()), "put its new certificate into \"/"),
        (of(Ca::new("root").not_yet_valid()), clock),
        (
            with("extendedKeyUsage = clientAuth"),
            "issue its certificate again with extendedKeyUsage=serverAuth, or without that extension",
        ),
        (with("1.2.3.4 = critical,DER:0500"), "without that extension, or not as a critical one"),
        (of(Ca::new("root").key(Key::Rsa1024)), "make a new key, of 2,048 to 8,192 bits"),
        (of(Ca::new("root").key(Key::RsaPss2048)), "with a plain RSA key (openssl genpkey"),
        (of(Ca::new("root").key(Key::Ed448)), key),
    ] {
        let server = root.issue(&localhost()).unwrap();
        check(&refused_by(&directory, &root, &server).await, ErrorKind::Tls, hint);
    }
    let short = authority(&format!("basicConstraints = critical,CA:TRUE,pathlen:0\n{SIGNS}"));
    let below = short.intermediate("intermediate").unwrap().issue(&localhost()).unwrap();
    let hint = "issue the authority's certificate again with a larger pathlen";
    check(&refused_by(&directory, &short, &below).await, ErrorKind::Tls, hint);
}

/// AWS-LC supports it.
#[cfg(feature = "tls-ring")]
#[tokio::test]
async fn the_hint_for_a_key_that_only_aws_lc_supports_names_the_feature() {
    let directory = zoo::tempdir();
    let root = CERTIFICATES.authority(Ca::new("root").key(Key::P521)).unwrap();
    let server = root.issue(&localhost()).unwrap();
    let hint = "build pgbell with the feature tls-aws-lc-rs and without tls-ring";
    check(&refused_by(&directory, &root, &server).await, ErrorKind::Tls, hint);
}

#[tokio::test]
async fn the_hint_for_a_flaw_of_a_certificate_says_how_to_issue_it_again() {
    let directory = zoo::tempdir();
    let silent = Ca::new("between")
        .extensions("basicConstraints = critical,CA:TRUE\nkeyUsage = critical,digitalSignature");
    let with = |lines: &str| zoo::issue(&localhost().extensions(lines));
    for (server, hint) in [
        (
            ROOT.intermediate(silent).unwrap().issue(&localhost()).unwrap(),
            "issue the intermediate certificate again with keyUsage=keyCertSign,cRLSign",
        ),
        (
            with("keyUsage = critical,keyCertSign"),
            "issue it again with keyUsage=digitalSignature,keyEncipherment, or without that extension",
        ),
        (
            with("extendedKeyUsage = clientAuth"),
            "issue it again with extendedKeyUsage=serverAuth, or without that extension",
        ),
        (with("keyUsage = DER:0500"), "issue it again"),
        (
            zoo::issue(&Leaf::server("x").without_names()),
            "issue it with subjectAltName=DNS:HOST (libpq still uses the common name)",
        ),
        (
            OTHER_ROOT.intermediate("stranger").unwrap().issue(&localhost()).unwrap(),
            "name the authority that issued it with sslrootcert; a hosted database offers",
        ),
    ] {
        check(&refused_by(&directory, &ROOT, &server).await, ErrorKind::Tls, hint);
    }
    let (nameless, key) = zoo::nameless();
    let file = directory.file("root.crt", ROOT.certificate().pem());
    let parameters = format!("sslmode=verify-full sslrootcert={file}");
    let error = refusal(&Setup::pem(&nameless, &key), &parameters).await;
    let hint = "issue it with subjectAltName=DNS:HOST, or verify only the authority";
    check(&error, ErrorKind::Tls, hint);
}

#[tokio::test]
async fn the_hint_for_an_issuer_that_may_not_sign_says_why() {
    let directory = zoo::tempdir();
    for (root, hint) in [
        (
            CERTIFICATES.authority(Ca::new("root").version_1()).unwrap(),
            "it is of version 1, which cannot be that of an authority",
        ),
        (
            authority("basicConstraints = critical,CA:FALSE"),
            "it is not an authority (no basicConstraints CA:TRUE)",
        ),
        (
            authority("basicConstraints = critical,CA:TRUE\nkeyUsage = critical,digitalSignature"),
            "it may not sign others (its keyUsage lacks keyCertSign)",
        ),
        (
            authority("basicConstraints = critical,CA:TRUE\nkeyUsage = DER:0500"),
            "it is malformed in part, and cannot verify others",
        ),
    ] {
        let server = root.issue(&localhost()).unwrap();
        let both = format!("{}{}", OTHER_ROOT.certificate().pem(), root.certificate().pem());
        let file = directory.file("root.crt", both);
        let parameters = format!("sslmode=verify-full sslrootcert={file}");
        check(&refusal(&Setup::new(&server), &parameters).await, ErrorKind::Tls, hint);
    }
}

#[tokio::test]
async fn the_hint_for_a_revoked_authority_names_the_file() {
    let directory = zoo::tempdir();
    let root = CERTIFICATES.authority("revoked root").unwrap();
    let server = root.issue(&localhost()).unwrap();
    root.revoke(root.certificate()).unwrap();
    let file = directory.file("root.crt", root.certificate().pem());
    let list = directory.file("list.crl", root.revocation_list().unwrap().pem());
    let parameters = format!("sslmode=verify-full sslrootcert={file} sslcrl={list}");
    let error = refusal(&Setup::new(&server), &parameters).await;
    check(&error, ErrorKind::Tls, &format!("remove it from {file:?}"));
}

/// A machine may have no list of authorities: then the error says so, with another hint.
#[tokio::test]
async fn the_hint_for_a_private_authority_and_the_list_of_the_system_names_sslrootcert() {
    let server = ROOT.intermediate("private").unwrap().issue(&localhost()).unwrap();
    let parameters = "sslmode=verify-full sslrootcert=system";
    match tls(&config(parameters)) {
        Ok(_) => {
            let hint = "is it a private authority? Name its certificate with sslrootcert";
            check(&refusal(&Setup::new(&server), parameters).await, ErrorKind::Tls, hint);
        }
        Err(error) => {
            let hint = "install it (package ca-certificates), or name a file with sslrootcert";
            check(&error, ErrorKind::Config, hint);
        }
    }
}

#[test]
fn the_hint_for_a_file_says_what_it_must_contain() {
    let directory = zoo::tempdir();
    let root = directory.file("root.crt", ROOT.certificate().pem());
    let text = directory.file("text", "no certificate");
    for (parameters, hint) in [
        (
            format!("sslmode=require sslrootcert={text}"),
            "it must be PEM: -----BEGIN CERTIFICATE-----",
        ),
        (
            "sslmode=verify-ca sslrootcert=/nonexistent".to_owned(),
            "name it with sslrootcert, or trust the system's list with sslrootcert=system",
        ),
        (
            format!("sslmode=require sslrootcert={root} sslcrl={text}"),
            "it must be PEM: -----BEGIN X509 CRL-----",
        ),
        (
            format!("sslmode=require sslcrl={text}"),
            "name the file of authorities with sslrootcert: without it no certificate is verified",
        ),
        (
            format!("sslmode=require sslcert={root} sslkey=/nonexistent"),
            "name the key with sslkey, or send no certificate: sslcertmode=disable",
        ),
    ] {
        check(&tls(&config(&parameters)).unwrap_err(), ErrorKind::Config, hint);
    }
    let engine = config(&format!("sslmode=require sslcert={root} sslkey=pkcs11:token"));
    let hint = "only keys in files are supported";
    check(&tls(&engine).unwrap_err(), ErrorKind::Unsupported, hint);
}

#[tokio::test]
async fn the_hint_for_a_parameter_that_the_server_does_not_meet_says_what_to_set() {
    let directory = zoo::tempdir();
    let root = directory.file("root.crt", ROOT.certificate().pem());
    let silent = Setup { protocols: vec![], ..Setup::good() };
    for (setup, parameters, kind, hint) in [
        (
            silent,
            "sslmode=require sslnegotiation=direct".to_owned(),
            ErrorKind::Tls,
            "direct TLS needs PostgreSQL 17 or later: use sslnegotiation=postgres",
        ),
        (
            Setup::good(),
            "sslmode=require sslcertmode=require".to_owned(),
            ErrorKind::Tls,
            "the server asks if its ssl_ca_file is set; sslcert and sslkey name the client's certificate",
        ),
        (
            Setup::good(),
            format!("host='' hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={root}"),
            ErrorKind::Config,
            "set host to the name in the server's certificate; hostaddr may stay",
        ),
    ] {
        check(&refusal(&setup, &parameters).await, kind, hint);
    }
}
