//! Revoked certificates.

use pgbell_testkit::{Authority, Leaf};

use super::server::*;
use super::zoo::{self, CERTIFICATES, TempDir};
use crate::error::{Error, ErrorKind};

/// An authority with an intermediate, and a directory with the lists of both.
struct Revoking {
    root: Authority,
    intermediate: Authority,
    directory: TempDir,
    parameters: String,
}

fn revoking() -> Revoking {
    let root = CERTIFICATES.authority("revoking root").unwrap();
    let intermediate = root.intermediate("revoking intermediate").unwrap();
    let directory = zoo::tempdir();
    let file = directory.file("root.crt", root.certificate().pem());
    Revoking { root, intermediate, directory, parameters: format!("sslrootcert={file}") }
}

impl Revoking {
    async fn attempt(&self, setup: &Setup, more: &str) -> Result<(), Error> {
        attempt(setup, &format!("{} {more}", self.parameters)).await.0.map(drop)
    }
}

fn words(result: Result<(), Error>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    error.to_string()
}

/// T9.
#[tokio::test]
async fn a_revoked_certificate_is_refused_with_and_without_its_host_checked() {
    let revoking = revoking();
    let [good, bad] = [(), ()].map(|()| revoking.root.issue(&Leaf::server("localhost")).unwrap());
    revoking.root.revoke(&bad).unwrap();
    let list = revoking.root.revocation_list().unwrap();
    let file = revoking.directory.file("list.crl", list.pem());
    for mode in ["require", "verify-ca", "verify-full"] {
        let with = format!("sslmode={mode} sslcrl={file}");
        revoking.attempt(&Setup::new(&good), &with).await.unwrap();
        let found = words(revoking.attempt(&Setup::new(&bad), &with).await);
        assert!(found.contains("is revoked"), "{found}");
        assert!(found.contains("(hint: the server needs a new certificate)"), "{found}");
        revoking.attempt(&Setup::new(&bad), &format!("sslmode={mode}")).await.unwrap();
    }
}

/// Editors on Windows write a byte order mark.
#[tokio::test]
async fn a_byte_order_mark_before_authorities_or_lists_is_ignored() {
    let revoking = revoking();
    let [good, bad] = [(), ()].map(|()| revoking.root.issue(&Leaf::server("localhost")).unwrap());
    revoking.root.revoke(&bad).unwrap();
    let list = revoking.root.revocation_list().unwrap();
    let root = revoking.root.certificate();
    for (mark, is_accepted) in [("\u{feff}", true), ("\u{feff}\u{feff}", false)] {
        let directory = zoo::tempdir();
        let root = directory.file("root.crt", format!("{mark}{}", root.pem()));
        let list = directory.file("root.crl", format!("{mark}{}", list.pem()));
        let directory = directory.0.display();
        for parameters in [
            format!("sslrootcert={root}"),
            format!("{} sslcrl={list}", revoking.parameters),
            format!("{} sslcrldir={directory}", revoking.parameters),
        ] {
            let parameters = format!("sslmode=verify-full {parameters}");
            let result = attempt(&Setup::new(&good), &parameters).await.0.map(drop);
            assert_eq!(result.is_ok(), is_accepted, "{parameters}: {result:?}");
            if is_accepted && !parameters.contains(&root) {
                let result = attempt(&Setup::new(&bad), &parameters).await.0.map(drop);
                assert!(words(result).contains("is revoked"), "{parameters}");
            }
        }
    }
}

#[tokio::test]
async fn each_authority_of_a_chain_needs_its_list() {
    let revoking = revoking();
    let leaf = revoking.intermediate.issue(&Leaf::server("localhost")).unwrap();
    let setup = Setup::new(&leaf);
    let [of_root, of_intermediate] =
        [&revoking.root, &revoking.intermediate].map(|one| one.revocation_list().unwrap());
    let file = revoking.directory.file("list.crl", of_root.pem());
    let with = format!("sslmode=verify-ca sslcrl={file}");
    let found = words(revoking.attempt(&setup, &with).await);
    assert!(found.contains("no list of revoked certificates is from"), "{found}");
    assert!(found.contains("must contain a list of each authority of the chain)"), "{found}");
    revoking.directory.file("list.crl", format!("{}{}", of_root.pem(), of_intermediate.pem()));
    revoking.attempt(&setup, &with).await.unwrap();
    // As files of a directory that has other files too.
    let lists = zoo::tempdir();
    lists.file("0a.r0", of_root.pem());
    lists.file("0b.r0", of_intermediate.pem());
    lists.file("README", "nothing to see");
    std::fs::create_dir(lists.0.join("below")).unwrap();
    let within = format!("sslmode=verify-ca sslcrldir={}", lists.0.display());
    revoking.attempt(&setup, &within).await.unwrap();
    // Below a revoked intermediate no certificate is accepted.
    revoking.root.revoke(revoking.intermediate.certificate()).unwrap();
    lists.file("0a.r0", revoking.root.revocation_list().unwrap().pem());
    assert!(words(revoking.attempt(&setup, &within).await).contains("is revoked"));
}

/// T9: libpq would continue without a check.
#[tokio::test]
async fn a_list_that_cannot_be_read_is_an_error() {
    let revoking = revoking();
    let list = revoking.root.revocation_list().unwrap();
    let broken = list.pem().replacen("MII", "AAA", 1).replacen("MIH", "AAA", 1);
    assert_ne!(broken, list.pem());
    let broken = revoking.directory.file("broken.crl", broken);
    let text = revoking.directory.file("text.crl", "no list");
    let empty = zoo::tempdir();
    for (parameter, words) in [
        (format!("sslcrl={broken}"), "is malformed"),
        (format!("sslcrl={text}"), "contains no list"),
        ("sslcrl=/nonexistent/list.crl".to_owned(), "does not exist"),
        (format!("sslcrl={}", empty.0.display()), "not a regular file"),
        (format!("sslcrldir={}", empty.0.display()), "contains no list"),
        ("sslcrldir=/nonexistent".to_owned(), "cannot be read"),
    ] {
        let config = config(&format!("{} sslmode=verify-ca {parameter}", revoking.parameters));
        let error = tls(&config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(words), "{parameter}: {error}");
    }
    // Without authorities the list would not be used.
    let error = tls(&config(&format!("sslmode=require sslcrl={broken}"))).unwrap_err();
    assert!(error.to_string().contains("no authority to trust"), "{error}");
}

/// A list that another authority has signed.
#[tokio::test]
async fn a_forged_list_is_refused() {
    let revoking = revoking();
    let leaf = revoking.root.issue(&Leaf::server("localhost")).unwrap();
    let forger = CERTIFICATES.authority("revoking root").unwrap();
    let file = revoking.directory.file("list.crl", forger.revocation_list().unwrap().pem());
    let with = format!("sslmode=verify-ca sslcrl={file}");
    let found = words(revoking.attempt(&Setup::new(&leaf), &with).await);
    assert!(found.contains("not signed by its authority") || found.contains("no list"), "{found}");
}
