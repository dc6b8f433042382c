//! Every `sslmode` with every kind of certificate, as in libpq.

use pgbell_testkit::{Ca, Certificate, Key, Leaf, Signature};

use super::server::*;
use super::zoo::{self, CERTIFICATES, GOOD, INTERMEDIATE, OTHER_ROOT, ROOT, TempDir};
use crate::error::{Error, ErrorKind};

/// A server, and the errors of verify-ca and verify-full. `None`: accepted.
struct Case {
    name: &'static str,
    setup: Setup,
    verify_ca: Option<&'static str>,
    verify_full: Option<&'static str>,
}

fn case(
    name: &'static str,
    certificate: &Certificate,
    verify_ca: Option<&'static str>,
    verify_full: Option<&'static str>,
) -> Case {
    Case { name, setup: Setup::new(certificate), verify_ca, verify_full }
}

/// T9, and common mistakes of users.
fn cases() -> Vec<Case> {
    let self_signed = |leaf: Leaf| CERTIFICATES.self_signed(&leaf).unwrap();
    let local = || Leaf::server("localhost");
    let below = INTERMEDIATE.issue(&local()).unwrap();
    let alone = Setup::pem(below.pem(), below.key_pem());
    let stranger = OTHER_ROOT.issue(&local()).unwrap();
    let namesake = CERTIFICATES.authority("root").unwrap().issue(&local()).unwrap();
    let (v1, v1_key) = zoo::version_1();
    let unknown = Some("no authority in");
    let v1_words = Some("of version 1");
    vec![
        case("good", &GOOD, None, None),
        case("below an intermediate", &below, None, None),
        case(
            "other host",
            &zoo::issue(&Leaf::server("db.example")),
            None,
            Some("is for \"db.example\" and not for \"localhost\""),
        ),
        case("expired", &zoo::issue(&local().expired()), Some("expired"), Some("expired")),
        case(
            "not yet valid",
            &zoo::issue(&local().not_yet_valid()),
            Some("becomes valid"),
            Some("becomes valid"),
        ),
        case(
            "self-signed",
            &self_signed(local()),
            Some("signed by itself"),
            Some("signed by itself"),
        ),
        // A certificate made by `openssl req -x509`, and an incomplete chain.
        case(
            "self-signed authority",
            &self_signed(local().as_authority()),
            Some("of an authority as its own"),
            Some("of an authority as its own"),
        ),
        Case {
            name: "intermediate missing",
            setup: alone,
            verify_ca: Some("no authority in"),
            verify_full: unknown,
        },
        case("unknown authority", &stranger, unknown, unknown),
        case(
            "another authority of that name",
            &namesake,
            Some("not the authority's"),
            Some("not the authority's"),
        ),
        case(
            "below no authority",
            &zoo::below_no_authority(),
            Some("not that of an authority"),
            Some("not that of an authority"),
        ),
        case(
            "for clients",
            &zoo::issue(&Leaf::client("localhost").dns_name("localhost")),
            Some("not for servers"),
            Some("not for servers"),
        ),
        case(
            "SHA-1",
            &zoo::issue(&local().signature(Signature::Sha1)),
            Some("not accepted"),
            Some("not accepted"),
        ),
        Case {
            name: "version 1",
            setup: Setup::pem(&v1, &v1_key),
            verify_ca: v1_words,
            verify_full: v1_words,
        },
    ]
}

fn root_file(directory: &TempDir) -> String {
    directory.file("root.crt", ROOT.certificate().pem())
}

fn check(case: &Case, mode: &str, result: Result<(), Error>, expected: Option<&str>) {
    match (result, expected) {
        (Ok(()), None) => {}
        (Err(error), Some(words)) => {
            assert_eq!(error.kind(), ErrorKind::Tls, "{}: {error}", case.name);
            assert!(error.to_string().contains(words), "{} with {mode}: {error}", case.name);
            assert!(error.hint().is_some(), "{} with {mode}: {error}", case.name);
            assert!(!error.is_transient(), "{error}");
        }
        (result, expected) => panic!("{} with {mode}: {result:?}, not {expected:?}", case.name),
    }
}

#[tokio::test]
async fn each_mode_accepts_the_same_servers_as_libpq() {
    let directory = zoo::tempdir();
    let root = root_file(&directory);
    for case in cases() {
        for tls13 in [true, false] {
            let setup = Setup::pem(&case.setup.chain, &case.setup.key).version(tls13);
            for mode in ["allow", "prefer", "require"] {
                // Without a file of authorities, every server that has the key of its certificate is accepted.
                let result = attempt(&setup, &format!("sslmode={mode}")).await.0.map(drop);
                check(&case, mode, result, None);
            }
            for (mode, expected) in [
                // With a file of authorities the certificate is verified, although these modes do not require it.
                ("allow", case.verify_ca),
                ("prefer", case.verify_ca),
                ("require", case.verify_ca),
                ("verify-ca", case.verify_ca),
                ("verify-full", case.verify_full),
            ] {
                let parameters = format!("sslmode={mode} sslrootcert={root}");
                let result = attempt(&setup, &parameters).await.0.map(drop);
                check(&case, mode, result, expected);
            }
        }
    }
}

/// Words of the hint for a refused certificate of [`cases`].
fn cure(name: &str) -> &'static str {
    match name {
        "other host" => "connect with a name that it contains (host=NAME",
        "expired" => "renew it, and have the server read it again (pg_ctl reload)",
        "not yet valid" => "is the clock of this machine, or of the one that made it, wrong?",
        "self-signed" => {
            "copy the certificate from the server, and name that file with sslrootcert"
        }
        "self-signed authority" => "copy exactly that file from the server into sslrootcert",
        "intermediate missing" | "unknown authority" => {
            "either sslrootcert has to name the authority that issued it"
        }
        "another authority of that name" => {
            "is there an older authority of the same name in sslrootcert?"
        }
        "below no authority" => "issue the intermediate certificate again, as that of an authority",
        "for clients" => "issue it again with extendedKeyUsage=serverAuth",
        "SHA-1" => "issue it again with SHA-256",
        "version 1" => "give it -extfile with a line subjectAltName=DNS:HOST",
        other => panic!("{other} has no hint here"),
    }
}

#[tokio::test]
async fn the_hint_for_each_refused_certificate_says_what_to_do() {
    let directory = zoo::tempdir();
    let parameters = format!("sslmode=verify-full sslrootcert={}", root_file(&directory));
    let refused = cases().into_iter().filter(|case| case.verify_full.is_some());
    let mut count = 0;
    for case in refused {
        let error = refusal(&case.setup, &parameters).await;
        let hint = error.hint().unwrap_or_default();
        assert!(hint.contains(cure(case.name)), "{}: {error}", case.name);
        count += 1;
    }
    assert!(count > 10, "{count}");
}

#[tokio::test]
async fn the_file_in_the_home_directory_is_used_like_a_named_one() {
    let directory = zoo::tempdir();
    root_file(&directory);
    let stranger = Setup::new(&OTHER_ROOT.issue(&Leaf::server("localhost")).unwrap());
    for (setup, parameters, refused) in [
        (Setup::good(), "sslmode=verify-full", false),
        (Setup::good(), "sslmode=require", false),
        (stranger, "sslmode=require", true),
    ] {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let mut server = setup.over(theirs);
        let config = config(parameters);
        let tls = super::super::Tls::with_directory(&config, Some(&directory.0)).unwrap();
        let to = config.servers().unwrap().remove(0);
        let peer = [127, 0, 0, 1].into();
        let (result, _) = tokio::join!(tls.connect_over(ours, &to, peer), server.handshake());
        assert_eq!(result.is_err(), refused, "{result:?}");
    }
}

/// The server presents the same certificate that is in the file.
#[tokio::test]
async fn a_server_whose_certificate_is_in_sslrootcert_is_accepted() {
    let directory = zoo::tempdir();
    let leaf = || Leaf::server("localhost");
    let self_signed = |leaf: Leaf| CERTIFICATES.self_signed(&leaf).unwrap();
    let authority = self_signed(leaf().as_authority());
    let plain = self_signed(leaf());
    let other_host = self_signed(Leaf::server("db.example").as_authority());
    let expired = self_signed(leaf().expired());
    let early = self_signed(leaf().not_yet_valid());
    let issued = INTERMEDIATE.issue(&leaf()).unwrap();
    for (name, certificate, verify_ca, verify_full) in [
        ("authority", &authority, None, None),
        ("plain", &plain, None, None),
        ("issued by an authority", &issued, None, None),
        ("other host", &other_host, None, Some("and not for \"localhost\"")),
        ("expired", &expired, Some("expired"), Some("expired")),
        ("early", &early, Some("becomes valid"), Some("becomes valid")),
    ] {
        // With another certificate before it.
        let both = format!("{}{}", ROOT.certificate().pem(), certificate.pem());
        let file = directory.file("pinned.crt", both);
        let setup = Setup::pem(certificate.pem(), certificate.key_pem());
        for (mode, expected) in [("verify-ca", verify_ca), ("verify-full", verify_full)] {
            for tls13 in [true, false] {
                let setup = Setup::pem(&setup.chain, &setup.key).version(tls13);
                let parameters = format!("sslmode={mode} sslrootcert={file}");
                let result = attempt(&setup, &parameters).await.0.map(drop);
                check(&case(name, certificate, None, None), mode, result, expected);
            }
        }
    }
}

/// A certificate in `sslrootcert` that is not that of an authority is accepted only as the server's own.
#[tokio::test]
async fn a_certificate_that_a_server_certificate_has_signed_is_refused_with_a_hint() {
    let directory = zoo::tempdir();
    let lines = "basicConstraints = critical,CA:FALSE\nsubjectAltName = DNS:db.example";
    let pinned = CERTIFICATES.authority(Ca::new("db.example").extensions(lines)).unwrap();
    let signed = pinned.issue(&Leaf::server("localhost")).unwrap();
    let both = format!("{}{}", ROOT.certificate().pem(), pinned.certificate().pem());
    let file = directory.file("pinned.crt", both);
    for mode in ["require", "verify-ca", "verify-full"] {
        for tls13 in [true, false] {
            let setup = Setup::new(&signed).version(tls13);
            let error = refusal(&setup, &format!("sslmode={mode} sslrootcert={file}")).await;
            assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
            assert!(error.hint().unwrap().contains("is not an authority"), "{error}");
        }
    }
}

/// A server must have the key of its certificate, also if the certificate is not verified.
#[tokio::test]
async fn a_certificate_without_its_key_is_refused_in_every_mode() {
    let directory = zoo::tempdir();
    let root = root_file(&directory);
    let thief = zoo::issue(&Leaf::server("localhost"));
    let (v1, _) = zoo::version_1();
    for chain in [GOOD.chain_pem(), &v1] {
        for tls13 in [true, false] {
            let setup = Setup::pem(chain, thief.key_pem()).version(tls13);
            let error = refusal(&setup, "sslmode=require").await;
            assert!(format!("{error:#}").contains("BadSignature"), "{error:#}");
        }
    }
    for tls13 in [true, false] {
        let setup = Setup::pem(GOOD.chain_pem(), thief.key_pem()).version(tls13);
        let error = refusal(&setup, &format!("sslmode=verify-full sslrootcert={root}")).await;
        assert!(format!("{error:#}").contains("BadSignature"), "{error:#}");
    }
}

#[tokio::test]
async fn keys_of_every_kind_are_accepted() {
    let directory = zoo::tempdir();
    let root = root_file(&directory);
    for key in [Key::P256, Key::P384, Key::Ed25519, Key::Rsa2048] {
        let certificate = zoo::issue(&Leaf::server("localhost").key(key));
        for tls13 in [true, false] {
            let setup = Setup::new(&certificate).version(tls13);
            for parameters in
                ["sslmode=require".to_owned(), format!("sslmode=verify-full sslrootcert={root}")]
            {
                let secured = attempt(&setup, &parameters).await.0.unwrap();
                assert_eq!(secured.end_point.map(|hash| hash.len()), Some(32), "{key:?}");
            }
        }
    }
    // Signed by a key without a hash.
    let root = CERTIFICATES.authority(Ca::new("ed").key(Key::Ed25519)).unwrap();
    let setup = Setup::new(&root.issue(&Leaf::server("localhost")).unwrap());
    assert_eq!(attempt(&setup, "sslmode=require").await.0.unwrap().end_point, None);
}

#[tokio::test]
async fn the_hint_names_the_mistake() {
    let directory = zoo::tempdir();
    let root = root_file(&directory);
    let verify = format!("sslmode=verify-ca sslrootcert={root}");
    let amazon = CERTIFICATES.authority("Amazon RDS eu-west-1 Root CA RSA2048 G1").unwrap();
    let amazon = amazon.issue(&Leaf::server("localhost")).unwrap();
    let hint = async |setup: &Setup| refusal(setup, &verify).await.hint().unwrap().to_owned();
    let found = hint(&Setup::new(&amazon)).await;
    let download = "Amazon RDS has its own authorities: download \
                    https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem and name it with sslrootcert";
    assert_eq!(found, download);
    let below = INTERMEDIATE.issue(&Leaf::server("localhost")).unwrap();
    let found = hint(&Setup::pem(below.pem(), below.key_pem())).await;
    assert!(found.contains("does not send its intermediate"), "{found}");
    let own = CERTIFICATES.self_signed(&Leaf::server("localhost").as_authority()).unwrap();
    let found = hint(&Setup::new(&own)).await;
    assert!(found.contains("copy exactly that file"), "{found}");
    let error = refusal(&Setup::new(&amazon), &verify).await;
    assert!(!error.to_string().contains("eu-west-1"), "that text was not verified: {error}");
    assert!(error.to_string().contains(&format!("{root:?}")), "{error}");
}

/// The test has every kind that openssl makes, with the length of RSA keys.
#[test]
fn the_kind_of_a_key_is_read_from_a_certificate() {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::super::certificate::Certificate;
    use super::super::key::Key as Kind;

    for (key, kind) in [
        (Key::P256, Kind::P256),
        (Key::P384, Kind::P384),
        (Key::P521, Kind::P521),
        (Key::Ed25519, Kind::Ed25519),
        (Key::Ed448, Kind::Ed448),
        (Key::Rsa1024, Kind::Rsa { bits: 1_024 }),
        (Key::Rsa2048, Kind::Rsa { bits: 2_048 }),
        (Key::RsaPss2048, Kind::RsaPss),
    ] {
        let certificate = zoo::issue(&Leaf::server("localhost").key(key));
        let der = CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap();
        assert_eq!(Kind::of(&Certificate::parse(&der).unwrap()), Some(kind), "{key:?}");
    }
}
