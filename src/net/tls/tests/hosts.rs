//! T8: the comparison of the host with the names of a certificate.

use pgbell_testkit::Leaf;

use super::server::*;
use super::zoo::{self, ROOT};
use crate::error::ErrorKind;

#[tokio::test]
async fn a_host_is_compared_with_the_alternative_names() {
    let directory = zoo::tempdir();
    let root = directory.file("root.crt", ROOT.certificate().pem());
    let bare = || Leaf::server("x").without_names();
    let star = zoo::issue(&bare().dns_name("*.example.com"));
    let partial = zoo::issue(&bare().dns_name("db*.example.com"));
    let middle = zoo::issue(&bare().dns_name("a.*.example.com"));
    let only_star = zoo::issue(&bare().dns_name("*"));
    let common = zoo::issue(&bare().common_name("db.example.com"));
    let other_common = zoo::issue(&Leaf::server("other.example.com").common_name("db.example.com"));
    let v4 = zoo::issue(&bare().ip_address([192, 0, 2, 1]));
    let v4_as_name = zoo::issue(&bare().dns_name("192.0.2.1"));
    let v6 = zoo::issue(&bare().ip_address([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]));
    let nul = zoo::issue(&bare().dns_name("db.example.com\0.evil.test"));
    let case = zoo::issue(&bare().dns_name("DB.Example.Com"));
    for (certificate, host, welcome) in [
        (&star, "a.example.com", true),
        (&star, "A.EXAMPLE.COM", true),
        (&star, "a.b.example.com", false),
        (&star, "example.com", false),
        (&star, ".example.com", false),
        (&partial, "db1.example.com", false),
        (&middle, "a.b.example.com", false),
        (&only_star, "localhost", false),
        // libpq uses the common name if there is no other: here it is never used.
        (&common, "db.example.com", false),
        (&other_common, "db.example.com", false),
        (&other_common, "other.example.com", true),
        (&v4, "192.0.2.1", true),
        (&v4, "192.0.2.2", false),
        (&v4_as_name, "192.0.2.1", false),
        (&v6, "2001:db8::1", true),
        (&v6, "2001:0DB8:0:0::1", true),
        (&v6, "2001:db8::2", false),
        (&nul, "db.example.com", false),
        (&case, "db.example.com", true),
    ] {
        let setup = Setup::new(certificate);
        let parameters = format!("host={host} sslmode=verify-full sslrootcert={root}");
        let result = attempt(&setup, &parameters).await.0;
        match result {
            Ok(_) => assert!(welcome, "{host}"),
            Err(error) => {
                assert!(!welcome, "{host}: {error}");
                assert!(matches!(error.kind(), ErrorKind::Tls | ErrorKind::Config), "{error}");
            }
        }
        // The chain is good in any case.
        let parameters = format!("host={host} sslmode=verify-ca sslrootcert={root}");
        let result = attempt(&setup, &parameters).await.0;
        assert!(result.is_ok(), "{host}: {result:?}");
    }
}

#[tokio::test]
async fn the_host_is_verified_and_not_its_address() {
    let directory = zoo::tempdir();
    let root = directory.file("root.crt", ROOT.certificate().pem());
    let setup = Setup::new(&zoo::issue(&Leaf::server("db.example.com").ip_address([127, 0, 0, 1])));
    let full = format!("sslmode=verify-full sslrootcert={root}");
    for (hosts, words) in [
        ("host=db.example.com hostaddr=127.0.0.1", None),
        ("host=other.example.com hostaddr=127.0.0.1", Some("and not for \"other.example.com\"")),
        ("host='' hostaddr=127.0.0.1", Some("no host is given")),
        ("host=/run/postgresql hostaddr=127.0.0.1", Some("not a name that a certificate can have")),
        ("host='no name' hostaddr=127.0.0.1", Some("not a name that a certificate can have")),
    ] {
        let result = attempt(&setup, &format!("{hosts} {full}")).await.0;
        match (result, words) {
            (Ok(_), None) => {}
            (Err(error), Some(words)) => assert!(error.to_string().contains(words), "{error}"),
            (result, _) => panic!("{hosts}: {result:?}"),
        }
    }
}

#[tokio::test]
async fn the_error_for_another_host_lists_the_names_of_the_certificate() {
    let directory = zoo::tempdir();
    let root = directory.file("root.crt", ROOT.certificate().pem());
    let full = format!("sslmode=verify-full sslrootcert={root}");
    let mut many = Leaf::server("a.test").ip_address([192, 0, 2, 1]);
    for at in 0..7 {
        many = many.dns_name(format!("{at}.test"));
    }
    let error = refusal(&Setup::new(&zoo::issue(&many)), &full).await.to_string();
    let names = r#"is for "a.test", "192.0.2.1", "0.test", "1.test", "2.test" and 4 more and not"#;
    assert!(error.contains(names), "{error}");
    let bare = Leaf::server("x").without_names().common_name("db\u{1b}[2J.test");
    let error = refusal(&Setup::new(&zoo::issue(&bare)), &full).await;
    assert!(error.to_string().contains(r"common name"), "{error}");
    assert!(!error.to_string().contains('\u{1b}'), "{error}");
    assert!(error.hint().unwrap().contains("subjectAltName"), "{error}");
    let nul = Leaf::server("x").without_names().dns_name("localhost\0.evil.test");
    let error = refusal(&Setup::new(&zoo::issue(&nul)), &full).await.to_string();
    assert!(error.contains(r#""localhost\0.evil.test""#), "{error}");
}
