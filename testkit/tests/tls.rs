//! A server uses TLS as it was configured. The client is `openssl s_client`.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use common::{Session, ask, trusting};
use pgbell_testkit::{
    Auth, Authority, Ca, Certificates, Cluster, Installation, Key, Leaf, Signature, Tls, TlsVersion,
};

fn path(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

/// Arguments that request TLS and check the server's chain and name.
fn checking(root: &Authority) -> Vec<&str> {
    let mut arguments = vec!["-starttls", "postgres", "-verify_return_error"];
    arguments.extend(["-verify_hostname", "localhost"]);
    arguments.extend(["-CAfile", path(root.certificate().path())]);
    arguments
}

const TLS_IN_USE: &str = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// The OpenSSL of each server loads each kind of key and signature, without a restart. All servers of the matrix
/// have the same OpenSSL, which must support them all.
#[test]
fn matrix_every_kind_of_certificate_is_served() {
    let certificates = Certificates::new().unwrap();
    let all = [Key::P256, Key::P384, Key::Ed25519, Key::Rsa2048];
    let roots = all.map(|key| certificates.authority(Ca::new("root").key(key)).unwrap());
    let leaf = Leaf::server("localhost");
    let mut served: Vec<_> = roots.iter().map(|root| (root, root.issue(&leaf).unwrap())).collect();
    let common = served.len();
    let [p256, p384, _, rsa] = &roots;
    for key in all {
        served.push((p256, p256.issue(&leaf.clone().key(key)).unwrap()));
    }
    let ecdsa = [Signature::Sha1, Signature::Sha384, Signature::Sha512].map(|one| (p384, one));
    let pkcs1 = [Signature::Sha1, Signature::Sha224, Signature::Sha384, Signature::Sha512];
    let pss = [Signature::PssSha256, Signature::PssSha384, Signature::PssSha512];
    let rsa = pkcs1.into_iter().chain(pss).map(|one| (rsa, one));
    for (root, signature) in ecdsa.into_iter().chain(rsa) {
        served.push((root, root.issue(&leaf.clone().signature(signature)).unwrap()));
    }
    for root in &roots {
        let between = root.intermediate("between").unwrap();
        served.push((root, between.issue(&leaf).unwrap()));
    }

    let mut installations = Installation::matrix().unwrap_or_else(|error| panic!("{error}"));
    let newest = installations.len() - 1;
    installations.push(Installation::find().unwrap());
    for (number, installation) in installations.into_iter().enumerate() {
        let major = installation.major();
        let cluster = trusting().installation(installation).tls(&served[0].1).start().unwrap();
        assert_eq!(ask(&cluster, "SHOW ssl"), ["on"], "{major}");
        let served = if number < newest { &served[..common] } else { &served };
        for (root, certificate) in served {
            cluster.set_tls(certificate).unwrap();
            let session = Session::open_tls(cluster.port(), "postgres", &checking(root));
            let mut session = session.unwrap_or_else(|error| panic!("{major}: {error}"));
            assert_eq!(session.ask(TLS_IN_USE).unwrap(), ["TLSv1.3"], "{major}");
        }
        direct_tls_is_supported_since_version_17(&cluster);
    }
}

/// TLS from the first byte, only for clients that name the protocol.
fn direct_tls_is_supported_since_version_17(cluster: &Cluster) {
    let direct = |arguments| Session::open_tls(cluster.port(), "postgres", arguments).is_ok();
    assert_eq!(direct(&["-alpn", "postgresql"]), cluster.major() >= 17, "{}", cluster.version());
    assert!(!direct(&[]), "{}", cluster.version());
    assert!(!direct(&["-alpn", "http/1.1"]), "{}", cluster.version());
    assert!(direct(&["-starttls", "postgres", "-alpn", "postgresql"]), "{}", cluster.version());
}

#[test]
fn a_bad_certificate_is_served_and_the_client_reports_the_reason() {
    let certificates = Certificates::new().unwrap();
    let root = certificates.authority("root").unwrap();
    let stranger = certificates.authority("root").unwrap();
    let unfit = root.intermediate(Ca::new("unfit").without_constraints()).unwrap();
    let localhost = Leaf::server("localhost");
    let expect = [
        (stranger.issue(&localhost).unwrap(), "verify error"),
        (root.issue(&Leaf::server("example.com")).unwrap(), "hostname mismatch"),
        (root.issue(&localhost.clone().expired()).unwrap(), "certificate has expired"),
        (root.issue(&localhost.clone().not_yet_valid()).unwrap(), "not yet valid"),
        (unfit.issue(&localhost).unwrap(), "invalid CA certificate"),
        (certificates.self_signed(&localhost).unwrap(), "self-signed certificate"),
        (root.issue(&localhost.without_names().dns_name("a\0b")).unwrap(), "verify error"),
    ];
    let cluster = trusting().tls(&expect[0].0).start().unwrap();
    for (certificate, reason) in &expect {
        cluster.set_tls(certificate).unwrap();
        let session = Session::open_tls(cluster.port(), "postgres", &checking(&root));
        let error = session.err().unwrap().to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    // A client that trusts this very certificate accepts it, whether it is an authority or not.
    for leaf in [Leaf::server("localhost"), Leaf::server("localhost").as_authority()] {
        let own = certificates.self_signed(&leaf).unwrap();
        cluster.set_tls(&own).unwrap();
        let arguments =
            ["-starttls", "postgres", "-verify_return_error", "-CAfile", path(own.path())];
        Session::open_tls(cluster.port(), "postgres", &arguments).unwrap();
    }
}

#[test]
fn the_servers_copies_belong_to_its_user_and_are_private() {
    let certificates = Certificates::new().unwrap();
    let root = certificates.authority("root").unwrap();
    let server = root.issue(&Leaf::server("localhost")).unwrap();
    let tls = Tls::new(&server).client_authority(&root);
    assert!(!format!("{tls:?}").contains("PRIVATE KEY"));
    let cluster = trusting().tls(&tls).start().unwrap();
    let owner = fs::metadata(cluster.data_dir()).unwrap().uid();
    for name in ["tls.crt", "tls.key", "tls-ca.crt"] {
        let found = fs::metadata(cluster.data_dir().join(name)).unwrap();
        assert_eq!((found.uid(), found.permissions().mode() & 0o777), (owner, 0o600), "{name}");
    }
    // The certificates may be removed before the server.
    drop((certificates, root, server));
    cluster.restart().unwrap();
    Session::open_tls(cluster.port(), "postgres", &["-starttls", "postgres"]).unwrap();
}

#[test]
fn only_the_configured_versions_of_tls_are_accepted() {
    let certificates = Certificates::new().unwrap();
    let server = certificates.self_signed(&Leaf::server("localhost")).unwrap();
    let cluster = trusting()
        .tls(Tls::new(&server).min_version(TlsVersion::V1_0).max_version(TlsVersion::V1_1))
        .start()
        .unwrap();
    let open = |arguments: &[&str]| {
        let arguments = [&["-starttls", "postgres"], arguments].concat();
        let mut session = Session::open_tls(cluster.port(), "postgres", &arguments)?;
        session.ask(TLS_IN_USE)
    };
    assert_eq!(open(&["-tls1"]).unwrap(), ["TLSv1"]);
    assert_eq!(open(&["-tls1_1"]).unwrap(), ["TLSv1.1"]);
    assert!(open(&["-tls1_2"]).is_err());
    assert!(open(&["-tls1_3"]).is_err());
    cluster.set_tls(Tls::new(&server).min_version(TlsVersion::V1_3)).unwrap();
    assert_eq!(open(&["-tls1_3"]).unwrap(), ["TLSv1.3"]);
    assert!(open(&["-tls1_2"]).is_err());
    cluster.set_tls(&server).unwrap();
    assert_eq!(open(&["-tls1_2"]).unwrap(), ["TLSv1.2"]);
    assert!(open(&["-tls1_1"]).is_err());
}

#[test]
fn an_hba_line_can_require_tls_or_forbid_it_and_tls_can_be_switched_off() {
    let certificates = Certificates::new().unwrap();
    let server = certificates.self_signed(&Leaf::server("localhost")).unwrap();
    let cluster = trusting()
        .tls(&server)
        .hba("hostnossl all safe all reject")
        .hba("hostssl all plain all reject")
        .init_sql("CREATE ROLE safe LOGIN; CREATE ROLE plain LOGIN")
        .start()
        .unwrap();
    let port = cluster.port();
    let tls = |user| Session::open_tls(port, user, &["-starttls", "postgres"]).map(|_| ());
    let clear = |user| Session::open_as(port, user).map(|_| ());
    tls("safe").unwrap();
    clear("plain").unwrap();
    for error in [clear("safe").unwrap_err(), tls("plain").unwrap_err()] {
        let error = error.to_string();
        assert!(error.contains("28000") && error.contains("pg_hba.conf rejects"), "{error}");
    }
    cluster.set("ssl", "off").unwrap();
    assert!(tls("safe").is_err());
    clear("plain").unwrap();
    cluster.set_tls(&server).unwrap();
    tls("safe").unwrap();
}

#[test]
fn a_client_can_log_in_with_a_certificate() {
    let certificates = Certificates::new().unwrap();
    let root = certificates.authority("server root").unwrap();
    let clients = certificates.authority("client root").unwrap();
    let between = clients.intermediate("client intermediate").unwrap();
    let server = root.issue(&Leaf::server("localhost")).unwrap();
    let bob = clients.issue(&Leaf::client("bob")).unwrap();
    let robert = between.issue(&Leaf::client("Robert \"Bob\" Miller").key(Key::Ed25519)).unwrap();
    let revoked = clients.issue(&Leaf::client("bob").key(Key::Rsa2048)).unwrap();
    let stranger = root.issue(&Leaf::client("bob")).unwrap();
    clients.revoke(&revoked).unwrap();
    let lists = [clients.revocation_list().unwrap(), between.revocation_list().unwrap()];
    let tls = lists.iter().fold(Tls::new(&server).client_authority(&clients), |tls, list| {
        tls.client_revocation_list(list)
    });
    let cluster = trusting()
        .auth(Auth::Cert)
        .tls(tls)
        .hba("hostssl all alice 127.0.0.1/32 cert map=people")
        .ident("people", "Robert \"Bob\" Miller", "alice")
        .init_sql("CREATE ROLE bob LOGIN; CREATE ROLE alice LOGIN")
        .start()
        .unwrap();
    let open = |user, certificate: Option<&pgbell_testkit::Certificate>| {
        let mut arguments = checking(&root);
        if let Some(certificate) = certificate {
            arguments.extend([
                "-cert",
                path(certificate.path()),
                "-key",
                path(certificate.key_path()),
            ]);
            arguments.extend(["-cert_chain", path(certificate.chain_path())]);
        }
        Session::open_tls(cluster.port(), user, &arguments)?.ask("SELECT session_user")
    };
    assert_eq!(open("bob", Some(&bob)).unwrap(), ["bob"]);
    assert_eq!(open("alice", Some(&robert)).unwrap(), ["alice"]);
    let refused = |user, certificate| open(user, certificate).unwrap_err().to_string();
    assert!(refused("bob", None).contains("requires a valid client certificate"));
    assert!(refused("alice", Some(&bob)).contains("ertificate authentication failed for user"));
    assert!(refused("bob", Some(&robert)).contains("ertificate authentication failed for user"));
    for certificate in [&revoked, &stranger] {
        let error = refused("bob", Some(certificate));
        assert!(!error.contains("unexpected") && error.contains("alert"), "{error}");
    }
    let error = Session::open_as(cluster.port(), "bob").err().unwrap().to_string();
    assert!(error.contains("no pg_hba.conf entry"), "{error}");
    // The testkit itself can still log in, and so can a standby.
    cluster.set("work_mem", "77kB").unwrap();
    cluster.standby().unwrap().wait_caught_up(&cluster).unwrap();
}

#[test]
fn a_login_by_certificate_without_an_authority_is_refused_at_once() {
    let certificates = Certificates::new().unwrap();
    let server = certificates.self_signed(&Leaf::server("localhost")).unwrap();
    for builder in [trusting(), trusting().tls(&server)] {
        let error = builder.auth(Auth::Cert).start().unwrap_err().to_string();
        assert!(error.contains("client_authority"), "{error}");
    }
}

#[test]
fn a_key_that_does_not_fit_is_refused_and_the_old_one_stays() {
    let certificates = Certificates::new().unwrap();
    let root = certificates.authority("root").unwrap();
    let server = root.issue(&Leaf::server("localhost")).unwrap();
    let cluster = trusting().tls(&server).start().unwrap();
    cluster.write_file("tls.key", root.certificate().key_pem()).unwrap();
    let error = cluster.reload().unwrap_err().to_string();
    assert!(error.contains("SSL configuration was not reloaded"), "{error}");
    Session::open_tls(cluster.port(), "postgres", &checking(&root)).unwrap();
}
