//! Preferred TLS: what leads from TLS to a connection in the clear, and where the password may be sent.

use std::fs;
use std::time::Duration;

use pgbell::{Connection, Error, ErrorKind, Listener, Notifier};
use pgbell_testkit::{Auth, Authority, Ca, Certificate, Certificates, Key, Leaf, RevocationList};

use crate::psql::psql_gets_in;
use crate::relay::{Answer, ClientRecord, Offer, Plan, Relay, Shown};
use crate::support::{Server, TEST_TIMEOUT, all_text, run, until};

const PASSWORD: &str = "pl4nted-for-the-right-server";

struct Setup {
    certificates: Certificates,
    root: Authority,
    other: Authority,
    good: Certificate,
    server: Server,
}

fn localhost() -> Leaf {
    Leaf::server("localhost").ip_address([127, 0, 0, 1])
}

impl Setup {
    fn new() -> Self {
        let certificates = Certificates::new().unwrap();
        let root = certificates.authority("root").unwrap();
        let other = certificates.authority("other").unwrap();
        let good = root.issue(&localhost()).unwrap();
        let server = Server::with(|builder| {
            builder
                .auth(Auth::ScramSha256)
                .hba("host all clear 127.0.0.1/32 password")
                .init_sql(format!(
                    "CREATE ROLE bob LOGIN PASSWORD '{PASSWORD}'; CREATE ROLE clear LOGIN PASSWORD '{PASSWORD}'"
                ))
                .tls(&good)
        });
        Self { certificates, root, other, good, server }
    }

    fn relay(&self) -> Relay {
        Relay::start(&self.server.cluster, &self.root, Plan::show(&self.good))
    }

    /// Returns `&sslrootcert=` and similar parameters.
    fn path(name: &str, path: &std::path::Path) -> String {
        format!("&{name}={}", path.to_str().unwrap().replace('/', "%2F"))
    }

    fn trusting(&self) -> String {
        Self::path("sslrootcert", self.root.certificate().path())
    }

    fn clients(&self, plan: Plan, clients: Option<&Authority>, is_old: bool) -> Plan {
        let clients = clients.map(|authority| authority.certificate().pem().to_owned());
        let shown = Shown { certificate: self.good.clone(), is_old, clients };
        Plan { answer: Answer::Show(Box::new(shown)), ..plan }
    }
}

fn url(relay: &Relay, role: &str, parameters: &str) -> String {
    format!("postgresql://{role}:{PASSWORD}@{}/postgres?{parameters}", relay.address)
}

/// Returns the result of a connection, and the clients that the relay served.
fn connect(relay: &Relay, url: &str) -> (Result<(), Error>, Vec<ClientRecord>) {
    let mut result = Ok(());
    run(async {
        result = match Connection::connect(url).await {
            Ok(connection) => {
                connection.close().await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    });
    if let Err(error) = &result {
        assert!(!all_text(error).contains("pl4nted"), "the password is shown");
    }
    (result, relay.met())
}

fn in_clear(met: &[ClientRecord]) -> usize {
    met.iter().filter(|met| met.startup_under_tls == Some(false)).count()
}

/// Returns a message with this type byte and body.
fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, body].concat()
}

fn fatal(code: &str) -> Vec<u8> {
    message(b'E', format!("SFATAL\0VFATAL\0C{code}\0Mno\0\0").as_bytes())
}

const SASL: &[u8] = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
const CLEARTEXT: &[u8] = b"R\0\0\0\x08\0\0\0\x03";

/// A row of the table: the answer, whether a connection in the clear follows, and whether libpq makes one.
struct Case {
    what: &'static str,
    plan: Plan,
    parameters: String,
    leads_to_clear: bool,
    /// `None`: psql 15 does not support the parameters, or fails earlier.
    libpq: Option<bool>,
}

/// The rule: after a refusal by the server a connection in the clear follows, after a refusal by the client it does not.
/// An attacker in between can forge the former; the latter is guaranteed.
#[test]
#[expect(clippy::print_stdout, reason = "the table is what the test run is to print")]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn the_table_of_what_leads_from_preferred_tls_to_the_clear() {
    let setup = Setup::new();
    let relay = setup.relay();
    let expired = setup.root.issue(&localhost().expired()).unwrap();
    let stranger = setup.other.issue(&localhost()).unwrap();
    let client_only = setup.root.issue(&Leaf::client("localhost")).unwrap();
    let no_hash = setup.certificates.authority(Ca::new("none").key(Key::Ed25519)).unwrap();
    let no_hash = no_hash.issue(&localhost().key(Key::Ed25519)).unwrap();
    let of_other: RevocationList = setup.other.revocation_list().unwrap();
    let revoked = setup.root.issue(&localhost()).unwrap();
    setup.root.revoke(&revoked).unwrap();
    let list = setup.root.revocation_list().unwrap();
    let bob = setup.other.issue(&Leaf::client("bob")).unwrap();
    let trusting = setup.trusting();
    let with_list = |list: &RevocationList| trusting.clone() + &Setup::path("sslcrl", list.path());
    let with_key = Setup::path("sslcert", bob.path()) + &Setup::path("sslkey", bob.key_path());
    let none = String::new;
    let good = || Plan::show(&setup.good);
    let saying = |bytes: &[u8]| {
        Plan::answer(Answer::Show(Box::new(Shown {
            certificate: setup.good.clone(),
            is_old: false,
            clients: None,
        })))
        .startup_answer(bytes)
    };
    let answer = |bytes| Plan::answer(Answer::Say(bytes));
    let line = |what, plan, parameters, leads_to_clear, libpq| Case {
        what,
        plan,
        parameters,
        leads_to_clear,
        libpq,
    };
    let after_sasl = |code| [SASL.to_vec(), fatal(code)].concat();
    let table = [
        // The server declines TLS, or the connection ends before the client has checked the server.
        line(
            "the server declines TLS",
            Plan::answer(Answer::No),
            trusting.clone(),
            true,
            Some(true),
        ),
        line("the server sends an error", answer(b"Eno\0"), trusting.clone(), true, None),
        line("the server closes", answer(b""), trusting.clone(), true, Some(false)),
        line("the server accepts TLS and closes", answer(b"S"), trusting.clone(), true, Some(true)),
        line(
            "alert handshake_failure",
            Plan::answer(Answer::ToHello(b"\x15\x03\x03\0\x02\x02\x28")),
            trusting.clone(),
            true,
            Some(true),
        ),
        line(
            "accepted, and then no TLS",
            Plan::answer(Answer::ToHello(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")),
            trusting.clone(),
            true,
            Some(true),
        ),
        line(
            "the server refuses the client certificate",
            setup.clients(good(), Some(&setup.root), true),
            trusting.clone() + &with_key,
            true,
            Some(true),
        ),
        line(
            "the same in TLS 1.3",
            setup.clients(good(), Some(&setup.root), false),
            trusting.clone() + &with_key,
            true,
            Some(false),
        ),
        line("no rule for TLS", saying(&fatal("28000")), trusting.clone(), true, Some(true)),
        // The server has refused something other than TLS.
        line("too many clients", saying(&fatal("53300")), trusting.clone(), false, Some(true)),
        // The client has refused something.
        line("another answer", answer(b"G"), none(), false, Some(false)),
        line(
            "bytes after the acceptance",
            answer(b"SR\0\0\0\x08\0\0\0\0"),
            none(),
            false,
            // Depends on whether the bytes are there when psql reads.
            None,
        ),
        line(
            "alert protocol_version",
            Plan::answer(Answer::ToHello(b"\x15\x03\x03\0\x02\x02\x46")),
            none(),
            false,
            Some(true),
        ),
        line(
            "a version below ssl_min_protocol_version",
            setup.clients(good(), None, true),
            "&ssl_min_protocol_version=TLSv1.3".to_owned(),
            false,
            Some(true),
        ),
        line("another authority", Plan::show(&stranger), trusting.clone(), false, Some(true)),
        line("expired", Plan::show(&expired), trusting.clone(), false, Some(true)),
        line("not for servers", Plan::show(&client_only), trusting.clone(), false, Some(true)),
        line("revoked", Plan::show(&revoked), with_list(&list), false, Some(true)),
        line("no list of its authority", good(), with_list(&of_other), false, Some(true)),
        line(
            "sslcertmode=require, and no certificate is requested",
            good(),
            trusting.clone() + &with_key + "&sslcertmode=require",
            false,
            None,
        ),
        line(
            "channel_binding=require, not offered",
            good(),
            "&channel_binding=require".to_owned(),
            false,
            Some(false),
        ),
        line(
            "no hash, offered, not verified",
            Plan::show(&no_hash).offer(Offer::Kept),
            none(),
            false,
            Some(false),
        ),
        line("require_auth", good(), "&require_auth=md5".to_owned(), false, None),
        line("the password in clear", saying(CLEARTEXT), none(), false, None),
        line(
            "logged in without SCRAM",
            saying(&[SASL, b"R\0\0\0\x08\0\0\0\0"].concat()),
            none(),
            false,
            None,
        ),
        line(
            "min_protocol_version",
            saying(b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0"),
            "&min_protocol_version=3.2&max_protocol_version=3.2".to_owned(),
            false,
            None,
        ),
        line("not our protocol", saying(b"HTTP/1.1 400 Bad Request\r\n"), none(), false, None),
        // The server has applied a rule of its own: no other rule can apply.
        line("refused after a request", saying(&after_sasl("28000")), none(), false, None),
        line("a wrong password", saying(&after_sasl("28P01")), none(), false, None),
        line(
            "an offer that was stripped",
            good().offer(Offer::Stripped),
            none(),
            false,
            // psql connects in the clear, where channel binding is offered: a violation there.
            None,
        ),
        // The connection is established: its end is no failure of TLS.
        line("the server closes after the startup packet", saying(b""), none(), false, Some(false)),
    ];
    for Case { what, plan, parameters, leads_to_clear, libpq } in table {
        relay.set(plan);
        let url = url(&relay, "bob", &format!("sslmode=prefer{parameters}"));
        let (result, met) = connect(&relay, &url);
        let count = in_clear(&met);
        let libpq_count = libpq.and_then(|_| psql_gets_in(&url)).map(|_| in_clear(&relay.met()));
        println!("{what:50} clear {count}, libpq {libpq_count:?}: {:?}", result.as_ref().err());
        assert_eq!(count, usize::from(leads_to_clear), "{what}: {result:?} {met:?}");
        // The server behind the relay accepts every client in the clear.
        assert_eq!(result.is_ok(), leads_to_clear, "{what}: {result:?}");
        if let (Some(expected), Some(found)) = (libpq, libpq_count) {
            assert_eq!(found, usize::from(expected), "{what}: psql");
        }
    }
}

/// `allow` begins in the clear. If the client refuses there, it tries TLS. If it refuses under TLS, that is final.
#[test]
fn allow_leads_from_the_clear_to_tls_and_never_back() {
    let setup = Setup::new();
    let relay = setup.relay();
    let stranger = setup.other.issue(&localhost()).unwrap();
    for (what, certificate, role, parameters, expected) in [
        (
            "the password in clear, and then verified",
            &setup.good,
            "clear",
            setup.trusting(),
            Ok(()),
        ),
        ("never verified", &setup.good, "clear", String::new(), Err(ErrorKind::Auth)),
        ("refused", &stranger, "clear", setup.trusting(), Err(ErrorKind::Tls)),
    ] {
        relay.set(Plan::show(certificate));
        let url = url(&relay, role, &format!("sslmode=allow{parameters}"));
        let (result, met) = connect(&relay, &url);
        assert_eq!(result.as_ref().copied().map_err(Error::kind), expected, "{what}: {result:?}");
        let ways: Vec<_> = met.iter().map(|met| met.startup_under_tls).collect();
        let under_tls = if expected == Err(ErrorKind::Tls) { None } else { Some(true) };
        assert_eq!(ways, [Some(false), under_tls], "{what}");
        assert!(met[0].password.is_none(), "{what}: the password went out in the clear");
    }
}

/// This is the first `connect` of a listener and of a notifier.
#[test]
fn a_listener_and_a_notifier_do_not_go_to_the_clear_after_a_refusal() {
    let setup = Setup::new();
    let relay = setup.relay();
    relay.set(Plan::show(&setup.other.issue(&localhost()).unwrap()));
    let url = url(&relay, "bob", &format!("sslmode=prefer{}", setup.trusting()));
    run(async {
        let errors = [
            Listener::connect(&*url).await.unwrap_err(),
            Notifier::connect(&*url).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
        }
    });
    assert_eq!(in_clear(&relay.met()), 0);
}

/// The attacker comes later, and ends the session to force a new connection.
#[test]
fn a_listener_that_reconnects_does_not_go_to_the_clear_after_a_refusal() {
    let setup = Setup::new();
    let relay = setup.relay();
    let stranger = setup.other.issue(&localhost()).unwrap();
    let url = url(&relay, "bob", &format!("sslmode=prefer{}", setup.trusting()));
    run(async {
        // The relay waits for the next message of the client, which is the heartbeat.
        let builder = Listener::builder(&*url).channels(["a"]);
        let builder = builder.heartbeat(Duration::from_millis(20), TEST_TIMEOUT);
        let builder = builder.backoff(Duration::from_millis(5), Duration::from_millis(20));
        let listener = builder.connect().await.unwrap();
        relay.set(Plan::show(&stranger));
        setup.server.cluster.terminate_backend(listener.process_id().unwrap()).unwrap();
        until("it was refused again and again", || listener.stats().attempts_failed >= 3).await;
        let error = listener.last_error().unwrap();
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
        listener.close().await;
    });
    let met = relay.met();
    assert_eq!((met[0].startup_under_tls, met[0].is_in), (Some(true), true), "{met:?}");
    assert!(met.len() >= 4, "{met:?}");
    assert_eq!(in_clear(&met), 0, "{met:?}");
}

/// The attacker ends the session of a notifier, to force a new connection.
#[test]
fn a_notifier_that_reconnects_does_not_go_to_the_clear_after_a_refusal() {
    let setup = Setup::new();
    let relay = setup.relay();
    let stranger = setup.other.issue(&localhost()).unwrap();
    let url = url(&relay, "bob", &format!("sslmode=prefer{}", setup.trusting()));
    run(async {
        let builder = Notifier::builder(&*url);
        let builder = builder.backoff(Duration::from_millis(5), Duration::from_millis(20));
        let notifier = builder.connect().await.unwrap();
        relay.set(Plan::show(&stranger));
        setup.server.cluster.terminate_backend(notifier.process_id().unwrap()).unwrap();
        // The relay waits for the next message of the client.
        notifier.notify("a", "1").await.unwrap_err();
        until("it was refused again and again", || notifier.stats().attempts_failed >= 3).await;
        let error = notifier.last_error().unwrap();
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
        notifier.close().await;
    });
    let met = relay.met();
    assert_eq!((met[0].startup_under_tls, met[0].is_in), (Some(true), true), "{met:?}");
    assert!(met.len() >= 4, "{met:?}");
    assert_eq!(in_clear(&met), 0, "{met:?}");
}

/// A notifier does not reconnect: the caller connects again.
#[test]
fn a_new_notifier_does_not_go_to_the_clear_after_a_refusal() {
    let setup = Setup::new();
    let relay = setup.relay();
    let stranger = setup.other.issue(&localhost()).unwrap();
    let url = url(&relay, "bob", &format!("sslmode=prefer{}", setup.trusting()));
    run(async {
        let builder = Notifier::builder(&*url).reconnect(false);
        let notifier = builder.connect().await.unwrap();
        notifier.notify("a", "1").await.unwrap();
        relay.set(Plan::show(&stranger));
        setup.server.cluster.terminate_backend(notifier.process_id().unwrap()).unwrap();
        notifier.notify("a", "2").await.unwrap_err();
        // The notifier does not reconnect without the caller.
        assert_eq!(notifier.notify("a", "3").await.unwrap_err().kind(), ErrorKind::Closed);
        let error = Notifier::connect(&*url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    });
    let met = relay.met();
    let ways: Vec<_> = met.iter().map(|met| met.startup_under_tls).collect();
    assert_eq!(ways, [Some(true), None], "{met:?}");
    assert!(met[0].is_in, "{met:?}");
}

/// When the password is sent in clear: by `sslmode`, with and without verification, by `require_auth`. libpq sends it in
/// every case.
#[test]
fn the_table_of_where_a_password_is_sent_in_clear() {
    let setup = Setup::new();
    let relay = setup.relay();
    let home = setup.certificates_without_root();
    for mode in ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] {
        for is_verified in [false, true] {
            if mode.starts_with("verify") && !is_verified {
                continue;
            }
            for named in [false, true] {
                let what = format!("{mode}, verified {is_verified}, named {named}");
                let is_verified = is_verified && mode != "disable";
                relay.set(Plan::show(&setup.good));
                let trust = if is_verified { setup.trusting() } else { home.clone() };
                let with =
                    |more: &str| url(&relay, "clear", &format!("sslmode={mode}{trust}{more}"));
                let url = with(if named { "&require_auth=password" } else { "" });
                let (result, met) = connect(&relay, &url);
                let is_sent = met.iter().any(|met| met.password.is_some());
                let expected = named || is_verified || mode == "require";
                assert_eq!(is_sent, expected, "{what}: {result:?}");
                assert_eq!(result.is_ok(), expected, "{what}: {result:?}");
                if let Err(error) = result {
                    assert_eq!(error.kind(), ErrorKind::Auth, "{what}: {error}");
                    let hint = error.hint().unwrap();
                    assert!(hint.contains("require_auth=password"), "{what}: {error}");
                }
                // psql 15 does not support `require_auth`.
                if let Some(is_in) = psql_gets_in(&with("")) {
                    assert!(is_in, "psql, {what}");
                    assert!(relay.met().iter().any(|met| met.password.is_some()), "psql, {what}");
                }
            }
        }
    }
}

impl Setup {
    /// Returns a parameter that names a root file that does not exist, so that no authority is used.
    fn certificates_without_root(&self) -> String {
        let path = self.root.certificate().path().with_file_name("no-such-file");
        assert!(fs::metadata(&path).is_err());
        Self::path("sslrootcert", &path)
    }
}
