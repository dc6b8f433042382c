//! Channel binding with a relay between client and server, in every combination of what was verified, what the server
//! offers and what the certificate permits.

use pgbell::{Connection, ErrorKind};
use pgbell_testkit::{Auth, Authority, Ca, Certificate, Certificates, Key, Leaf};

use crate::psql::psql_gets_in;
use crate::relay::{Offer, Plan, Relay};
use crate::support::{Server, all_text, run};

const PASSWORD: &str = "pl4nted between two machines";

/// The result for the client: logged in, refused by the server, or the client refused the server. And its GS2 flag.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    In(&'static str),
    RefusedByServer(&'static str),
    RefusedByUs,
}
use Outcome::{In, RefusedByServer, RefusedByUs};

const PLUS: &str = "SCRAM-SHA-256-PLUS p";
const CANNOT: &str = "SCRAM-SHA-256 n";
const NOT_OFFERED: &str = "SCRAM-SHA-256 y";

fn localhost() -> Leaf {
    Leaf::server("localhost").ip_address([127, 0, 0, 1])
}

/// A certificate with or without a hash for channel binding, and its authority.
struct Kind {
    has_hash: bool,
    authority: Authority,
    leaf: Certificate,
}

impl Kind {
    fn new(certificates: &Certificates, has_hash: bool) -> Self {
        let key = || if has_hash { Key::P256 } else { Key::Ed25519 };
        let name = if has_hash { "hash" } else { "none" };
        let authority = certificates.authority(Ca::new(name).key(key())).unwrap();
        let leaf = authority.issue(&localhost().key(key())).unwrap();
        Self { has_hash, authority, leaf }
    }

    fn parameters(&self, is_verified: bool, binding: &str) -> String {
        let root = self.authority.certificate().path().to_str().unwrap().replace('/', "%2F");
        let check = match is_verified {
            true => format!("sslmode=verify-full&sslrootcert={root}"),
            false => "sslmode=require".to_owned(),
        };
        format!("{check}&channel_binding={binding}")
    }
}

fn server(leaf: &Certificate) -> Server {
    Server::with(|builder| {
        builder
            .auth(Auth::ScramSha256)
            .init_sql(format!("CREATE ROLE bob LOGIN PASSWORD '{PASSWORD}'"))
            .tls(leaf)
    })
}

fn expected(has_hash: bool, is_verified: bool, offer: Offer, binding: &str) -> Outcome {
    match (binding, offer, has_hash) {
        ("disable", ..) => In(CANNOT),
        ("require", Offer::Kept, true) => RefusedByServer(PLUS),
        ("require", ..) => RefusedByUs,
        // Bound to the certificate of the relay.
        (_, Offer::Kept, true) => RefusedByServer(PLUS),
        // An attacker in between may have chosen this certificate because it has no hash.
        (_, Offer::Kept, false) if !is_verified => RefusedByUs,
        (_, Offer::Kept, false) => In(CANNOT),
        // The server detects that its offer was removed.
        (_, Offer::Stripped, _) => RefusedByServer(NOT_OFFERED),
        (_, Offer::Clear, _) => In(NOT_OFFERED),
    }
}

/// The same for psql 15: it chooses SCRAM-SHA-256-PLUS, whatever was verified, and then fails without a hash.
fn psql_expected(offer: Offer, binding: &str) -> bool {
    match (binding, offer) {
        ("disable", _) => true,
        ("require", _) => false,
        (_, Offer::Kept | Offer::Stripped) => false,
        (_, Offer::Clear) => true,
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "the table is what the test run is to print")]
fn the_table_of_channel_binding_through_a_relay() {
    let certificates = Certificates::new().unwrap();
    let kinds = [true, false].map(|has_hash| Kind::new(&certificates, has_hash));
    let root = certificates.authority("root").unwrap();
    let server = server(&root.issue(&localhost()).unwrap());
    let relay = Relay::start(&server.cluster, &root, Plan::show(&kinds[0].leaf));
    let mut table = String::new();
    for kind in &kinds {
        for is_verified in [false, true] {
            for offer in [Offer::Kept, Offer::Stripped, Offer::Clear] {
                for binding in ["disable", "prefer", "require"] {
                    relay.set(Plan::show(&kind.leaf).offer(offer));
                    let row = Row { kind, is_verified, binding };
                    let outcome = row.pgbell(&relay);
                    let name = format!(
                        "hash {:5} verified {is_verified:5} offer {offer:?} {binding}",
                        kind.has_hash
                    );
                    let expected = expected(kind.has_hash, is_verified, offer, binding);
                    let psql = row.psql(&relay);
                    table += &format!("{name:56} {outcome:?}, psql {psql:?}\n");
                    assert_eq!(outcome, expected, "{name}\n{table}");
                    if let Some(psql) = psql {
                        let expected = psql_expected(offer, binding);
                        assert_eq!(psql, expected, "psql, {name}\n{table}");
                    }
                }
            }
        }
    }
    println!("{table}");
}

struct Row<'a> {
    kind: &'a Kind,
    is_verified: bool,
    binding: &'static str,
}

impl Row<'_> {
    fn url(&self, relay: &Relay) -> String {
        let parameters = self.kind.parameters(self.is_verified, self.binding);
        let password = PASSWORD.replace(' ', "%20");
        format!("postgresql://bob:{password}@{}/postgres?{parameters}", relay.address)
    }

    fn pgbell(&self, relay: &Relay) -> Outcome {
        let url = self.url(relay);
        let mut result = Ok(());
        run(async {
            result = match Connection::connect(&*url).await {
                Ok(connection) => {
                    connection.close().await;
                    Ok(())
                }
                Err(error) => Err(error),
            }
        });
        let met = relay.met();
        assert_eq!(met.len(), 1, "{met:?}");
        let flag = match met[0].sasl.as_deref() {
            Some(PLUS) => PLUS,
            Some(CANNOT) => CANNOT,
            Some(NOT_OFFERED) => NOT_OFFERED,
            Some(other) => panic!("{other}"),
            None => "",
        };
        match result {
            Ok(()) => {
                assert!(met[0].is_in);
                In(flag)
            }
            Err(error) => {
                assert!(!met[0].is_in && !all_text(&error).contains("pl4nted"));
                assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
                match error.sqlstate() {
                    Some(_) => RefusedByServer(flag),
                    None => {
                        assert_eq!(flag, "", "{error}");
                        assert!(format!("{error:#}").contains("channel_binding="), "{error}");
                        RefusedByUs
                    }
                }
            }
        }
    }

    fn psql(&self, relay: &Relay) -> Option<bool> {
        let is_in = psql_gets_in(&self.url(relay));
        relay.met();
        is_in
    }
}

/// There is no relay: the server itself has such a certificate.
#[test]
fn a_server_whose_certificate_has_no_hash_is_used_when_it_was_verified_or_binding_is_disabled() {
    let certificates = Certificates::new().unwrap();
    let kinds = [true, false].map(|has_hash| Kind::new(&certificates, has_hash));
    let server = server(&kinds[0].leaf);
    for kind in &kinds {
        server.cluster.set_tls(&kind.leaf).unwrap();
        for is_verified in [false, true] {
            for binding in ["disable", "prefer", "require"] {
                let parameters = kind.parameters(is_verified, binding);
                let url = server.cluster.url("bob", PASSWORD, "postgres");
                let url = format!("{url}?{parameters}");
                let expected = match (binding, kind.has_hash) {
                    ("disable", _) => Some("scram-sha-256"),
                    (_, true) => Some("scram-sha-256-plus"),
                    ("prefer", false) if is_verified => Some("scram-sha-256"),
                    _ => None,
                };
                run(async {
                    match Connection::connect(&*url).await {
                        Ok(connection) => {
                            let method = connection.auth_method().unwrap().to_string();
                            assert_eq!(Some(&*method), expected, "{parameters}");
                        }
                        Err(error) => {
                            assert_eq!(expected, None, "{parameters}: {error}");
                            assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
                            let hint = error.hint().unwrap();
                            let cure = match binding {
                                "require" => "channel_binding=prefer",
                                _ => "channel_binding=disable",
                            };
                            assert!(hint.contains(cure), "{error}");
                        }
                    }
                });
                if let Some(is_in) = psql_gets_in(&url) {
                    assert_eq!(is_in, binding == "disable" || kind.has_hash, "psql, {parameters}");
                }
            }
        }
    }
}
