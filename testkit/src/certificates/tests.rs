//! Checks of the certificates by the `openssl` command.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use super::*;
use openssl::text;

/// Returns what `openssl x509` prints about a certificate.
fn shown(certificate: &Certificate, options: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["x509", "-noout", "-in"]).arg(certificate.path()).args(options);
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// Returns the output of `openssl verify` for the chain.
fn verified(root: &Authority, certificate: &Certificate, options: &[&str]) -> String {
    let mut command = Command::new("openssl");
    // Level 0 allows SHA-1.
    command.args(["verify", "-auth_level", "0", "-CAfile"]).arg(root.certificate().path());
    command.args(options).arg("-untrusted").arg(certificate.chain_path());
    let output = command.arg(certificate.path()).output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[test]
fn keys_and_signatures_are_those_that_were_asked_for() {
    let certificates = Certificates::new().unwrap();
    let kinds = [
        (Key::P256, "ASN1 OID: prime256v1"),
        (Key::P384, "ASN1 OID: secp384r1"),
        (Key::Ed25519, "ED25519 Public-Key"),
        (Key::Rsa2048, "(2048 bit)"),
    ];
    let roots = kinds.map(|(key, shows)| {
        let root = certificates.authority(Ca::new(format!("{key:?}")).key(key)).unwrap();
        let found = shown(root.certificate(), &["-text"]);
        assert!(found.contains(shows), "{key:?}: {found}");
        root
    });
    let [p256, p384, ed25519, rsa] = &roots;
    let expect = [
        (p256, None, "ecdsa-with-SHA256"),
        (p256, Some(Signature::Sha1), "ecdsa-with-SHA1"),
        (p256, Some(Signature::Sha384), "ecdsa-with-SHA384"),
        (p384, Some(Signature::Sha512), "ecdsa-with-SHA512"),
        (ed25519, None, "ED25519"),
        (rsa, None, "sha256WithRSAEncryption"),
        (rsa, Some(Signature::Sha1), "sha1WithRSAEncryption"),
        (rsa, Some(Signature::Sha224), "sha224WithRSAEncryption"),
        (rsa, Some(Signature::Sha384), "sha384WithRSAEncryption"),
        (rsa, Some(Signature::Sha512), "sha512WithRSAEncryption"),
        (rsa, Some(Signature::PssSha256), "rsassaPss"),
        (rsa, Some(Signature::PssSha384), "rsassaPss"),
    ];
    for (root, signature, shows) in expect {
        let leaf = Leaf::server("localhost");
        let leaf = match signature {
            Some(signature) => leaf.signature(signature),
            None => leaf,
        };
        let issued = root.issue(&leaf).unwrap();
        let found = shown(&issued, &["-text"]);
        assert!(found.contains(&format!("Signature Algorithm: {shows}\n")), "{found}");
        if shows == "rsassaPss" {
            let hash = if signature == Some(Signature::PssSha256) { "sha256" } else { "sha384" };
            assert!(found.contains(&format!("Hash Algorithm: {hash}")), "{found}");
        }
        assert!(verified(root, &issued, &[]).contains(": OK"));
    }
    for key in [p256, ed25519] {
        let pss = Leaf::server("localhost").signature(Signature::PssSha256);
        let error = key.issue(&pss).unwrap_err().to_string();
        assert!(error.contains("PssSha256"), "{error}");
    }
}

#[test]
fn a_chain_leads_over_intermediates_to_the_root() {
    let certificates = Certificates::new().unwrap();
    let root = certificates.authority("root").unwrap();
    let upper = root.intermediate("upper").unwrap();
    let lower = upper.intermediate(Ca::new("lower").key(Key::P384)).unwrap();
    let leaf = lower.issue(&Leaf::server("localhost")).unwrap();
    assert_eq!(leaf.chain_pem().matches("BEGIN CERTIFICATE").count(), 3);
    assert_eq!(fs::read_to_string(leaf.chain_path()).unwrap(), leaf.chain_pem());
    assert!(leaf.chain_pem().starts_with(leaf.pem()));
    assert!(verified(&root, &leaf, &[]).contains(": OK"));
    assert!(verified(&upper, &leaf, &["-partial_chain"]).contains(": OK"));
    let stranger = certificates.authority("root").unwrap();
    assert!(!verified(&stranger, &leaf, &[]).contains(": OK"));

    let unfit = root.intermediate(Ca::new("unfit").without_constraints()).unwrap();
    let leaf = unfit.issue(&Leaf::server("localhost")).unwrap();
    assert!(verified(&root, &leaf, &[]).contains("invalid CA certificate"));
}

#[test]
fn names_dates_and_purposes_are_those_that_were_asked_for() {
    let certificates = Certificates::new().unwrap();
    let root = certificates.authority("root").unwrap();
    let leaf = Leaf::server("*.example.com").dns_name("127.0.0.1");
    let leaf = leaf.ip_address([127, 0, 0, 1]).common_name("other");
    let issued = root.issue(&leaf).unwrap();
    let found = shown(&issued, &["-subject", "-ext", "subjectAltName,extendedKeyUsage"]);
    assert!(found.contains("CN = other") || found.contains("CN=other"), "{found}");
    for part in ["DNS:*.example.com", "DNS:127.0.0.1", "IP Address:127.0.0.1", "Server Auth"] {
        assert!(found.contains(part), "{part}: {found}");
    }
    for (host, fits) in [("a.example.com", true), ("example.com", false), ("other", false)] {
        let said = verified(&root, &issued, &["-verify_hostname", host]);
        assert_eq!(said.contains(": OK"), fits, "{host}: {said}");
    }
    // The command does not print such a name as a name, but its bytes.
    let nul = root.issue(&Leaf::server("x").dns_name("good\0bad")).unwrap();
    assert!(shown(&nul, &["-ext", "subjectAltName"]).contains("good.bad"));
    let bare = root.issue(&Leaf::server("bare").without_names()).unwrap();
    assert!(!shown(&bare, &["-text"]).contains("Alternative Name"));

    for (leaf, says) in [
        (Leaf::server("x").expired(), "certificate has expired"),
        (Leaf::server("x").not_yet_valid(), "not yet valid"),
    ] {
        assert!(verified(&root, &root.issue(&leaf).unwrap(), &[]).contains(says));
    }

    let client = root.issue(&Leaf::client(r"bob ß/+\=")).unwrap();
    let name = shown(&client, &["-subject", "-nameopt", "RFC2253,-esc_msb,utf8"]);
    assert_eq!(name.trim(), r"subject=CN=bob ß/\+\\=", "{name}");
    assert!(verified(&root, &client, &["-purpose", "sslclient"]).contains(": OK"));
    assert!(!verified(&root, &client, &["-purpose", "sslserver"]).contains(": OK"));
}

#[test]
fn a_certificate_can_sign_itself_as_a_leaf_and_as_an_authority() {
    let certificates = Certificates::new().unwrap();
    for (leaf, shows) in [
        (Leaf::server("localhost"), "CA:FALSE"),
        (Leaf::server("localhost").as_authority(), "CA:TRUE"),
    ] {
        let own = certificates.self_signed(&leaf).unwrap();
        let found = shown(&own, &["-text"]);
        assert!(found.contains(shows), "{found}");
        assert_eq!(own.chain_pem(), own.pem());
        let names = shown(&own, &["-issuer", "-subject", "-nameopt", "RFC2253"]);
        assert_eq!(names, "issuer=CN=localhost\nsubject=CN=localhost\n");
    }
}

#[test]
fn a_revoked_certificate_is_on_the_list() {
    let certificates = Certificates::new().unwrap();
    for key in [Key::P256, Key::Ed25519] {
        let root = certificates.authority(Ca::new("root").key(key)).unwrap();
        let [good, bad] = [(), ()].map(|()| root.issue(&Leaf::server("localhost")).unwrap());
        root.revoke(&bad).unwrap();
        let list = root.revocation_list().unwrap();
        assert_eq!(fs::read_to_string(list.path()).unwrap(), list.pem());
        let check =
            |one| verified(&root, one, &["-crl_check", "-CRLfile", text(list.path()).unwrap()]);
        assert!(check(&good).contains(": OK"), "{}", check(&good));
        assert!(check(&bad).contains("certificate revoked"), "{}", check(&bad));
        assert!(root.revoke(&bad).is_err());
    }
}

#[test]
fn keys_are_private_not_shown_and_gone_with_the_last_user() {
    let certificates = Certificates::new().unwrap();
    let root = certificates.authority("root").unwrap();
    let leaf = root.issue(&Leaf::client("bob")).unwrap();
    let dir = certificates.area.scratch.data();
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    for one in [root.certificate(), &leaf] {
        let found = fs::metadata(one.key_path()).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
        assert_eq!(found.uid(), fs::metadata("/proc/self").unwrap().uid());
        assert!(one.key_pem().contains("PRIVATE KEY"));
        assert!(!format!("{one:?}").contains("PRIVATE KEY"));
    }
    drop((certificates, root));
    assert!(leaf.key_path().exists());
    drop(leaf);
    assert!(!dir.exists());
}
