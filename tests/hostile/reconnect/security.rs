//! V2, R14: the next session has the same security requirements as the first one, whatever the server sends.

use std::sync::Arc;
use std::time::Duration;

use pgbell::{Config, ErrorKind, Event, Gap, Listener, State};
use pgbell_testkit::{Authority, Certificate, Certificates, Leaf};

use super::super::attack::{hex, message, no_task_is_left, runtime};
use super::super::client::{PASSWORD, check_text, soon};
use super::super::scram::SASL;
use super::tls_server::{Act, TlsServer, Visitor};

struct Zoo {
    certificates: Certificates,
    root: Authority,
    server: Certificate,
    client: Certificate,
}

impl Zoo {
    fn new() -> Self {
        let certificates = Certificates::new().unwrap();
        let root = certificates.authority("root").unwrap();
        let server = root.issue(&Leaf::server("localhost")).unwrap();
        let client = root.issue(&Leaf::client("alice")).unwrap();
        Self { certificates, root, server, client }
    }

    fn serve(&self, acts: Vec<Act>) -> TlsServer {
        TlsServer::start(&self.server, &self.root, false, acts)
    }

    /// Every security requirement that can be set, except for the parameters in `more`.
    fn strict(&self, server: &TlsServer, more: &str) -> Config {
        let path = |path: &std::path::Path| path.display().to_string();
        let names: Vec<&str> =
            more.split(' ').filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
        let given = [
            ("host", "localhost".to_owned()),
            ("hostaddr", "127.0.0.1".to_owned()),
            ("port", server.address.port().to_string()),
            ("user", "alice".to_owned()),
            ("password", PASSWORD.to_owned()),
            ("sslmode", "verify-full".to_owned()),
            ("sslrootcert", path(self.root.certificate().path())),
            ("sslcert", path(self.client.path())),
            ("sslkey", path(self.client.key_path())),
            ("channel_binding", "require".to_owned()),
            ("require_auth", "scram-sha-256".to_owned()),
        ];
        let kept = given.iter().filter(|(name, _)| !names.contains(name));
        let kept: String = kept.map(|(name, value)| format!("{name}={value} ")).collect();
        (kept + more).parse().unwrap()
    }
}

async fn connect(config: Config) -> Listener {
    let builder = Listener::builder(config).channels(["a"]);
    let builder = builder.backoff(Duration::from_millis(5), Duration::from_millis(20));
    let mut listener = soon("the first session", builder.connect()).await.unwrap();
    let event = soon("a notification", listener.recv()).await.unwrap();
    assert!(matches!(event, Event::Notification(_)), "{event:?}");
    listener
}

async fn gap(listener: &mut Listener) -> Gap {
    match soon("a gap", listener.recv()).await.unwrap() {
        Event::Gap(gap) => {
            check_text(gap.cause());
            gap
        }
        other => panic!("{other:?}"),
    }
}

async fn close(listener: Listener) {
    soon("the end", listener.close()).await;
    no_task_is_left().await;
}

#[test]
fn v2_the_next_session_has_the_same_login_as_the_first_one() {
    let zoo = Zoo::new();
    runtime().block_on(async {
        for more in [
            "",
            "sslmode=verify-ca",
            "sslmode=require channel_binding=prefer",
            "sslcertmode=disable",
            "channel_binding=disable",
            "sslnegotiation=direct",
            "sslsni=0",
            "application_name=x options='-c work_mem=1MB'",
            "max_protocol_version=3.2",
        ] {
            let acts = vec![
                Act::Lose { close_notify: false },
                Act::Lose { close_notify: true },
                Act::Serve,
            ];
            let direct = more.contains("direct");
            let server = TlsServer::start(&zoo.server, &zoo.root, direct, acts);
            let mut listener = connect(zoo.strict(&server, more)).await;
            gap(&mut listener).await;
            let event = soon("a notification", listener.recv()).await.unwrap();
            assert!(matches!(event, Event::Notification(_)), "{more}: {event:?}");
            gap(&mut listener).await;
            close(listener).await;
            let visitors = all(&server, 3).await;
            let first = &visitors[0];
            assert_eq!(first.before, if direct { Vec::new() } else { hex("00000008 04d2162f") });
            assert_eq!(first.certificates.is_empty(), more.contains("sslcertmode"), "{more}");
            assert_eq!(
                first.is_bound,
                !more.contains("disable") || more.contains("cert"),
                "{more}"
            );
            assert_eq!(first.server_name.is_none(), more.contains("sni"), "{more}");
            assert_eq!(first.protocol.as_deref(), Some(&b"postgresql"[..]), "{more}");
            for visitor in &visitors[1..] {
                assert_eq!(visitor, first, "{more}");
            }
        }
    });
}

/// Waits until this many clients have disconnected.
async fn all(server: &TlsServer, count: usize) -> Vec<Visitor> {
    soon("the end of a visit", async {
        while server.visitors().len() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    server.visitors()
}

/// R14: it is another server, a server that has lost its TLS, or an attacker in between. The condition may be temporary.
#[test]
fn v2_a_server_without_the_required_identity_is_refused_and_tried_again() {
    let zoo = Zoo::new();
    let other_root = zoo.certificates.authority("other_root").unwrap();
    let show = |certificate: Certificate| Act::Show(Arc::new(certificate));
    let refusal = b"ESECRET-LOOKING TEXT\0";
    for (what, act, words) in [
        ("no TLS", Act::Answer(b"N"), "asks for TLS"),
        ("no TLS, and a login at once", Act::Answer(b"NR\0\0\0\x08\0\0\0\0"), "TLS"),
        ("an error in the clear", Act::Answer(refusal), ""),
        ("bytes behind the yes", Act::Answer(b"SR\0\0\0\x08\0\0\0\0"), ""),
        ("no answer that is one", Act::Answer(b"G"), "0x47"),
        ("an unknown CA", show(other_root.issue(&Leaf::server("localhost")).unwrap()), ""),
        ("another host", show(zoo.root.issue(&Leaf::server("example.com")).unwrap()), ""),
        ("expired", show(zoo.root.issue(&Leaf::server("localhost").expired()).unwrap()), ""),
    ] {
        let server = zoo.serve(vec![
            Act::Lose { close_notify: false },
            act.clone(),
            act.clone(),
            act,
            Act::Serve,
        ]);
        runtime().block_on(async {
            let mut listener = connect(zoo.strict(&server, "")).await;
            let gap = gap(&mut listener).await;
            assert_eq!((gap.sessions(), gap.attempts()), (1, 4), "{what}");
            let error = listener.last_error().unwrap();
            check_text(&error);
            let is_tls = matches!(error.kind(), ErrorKind::Tls | ErrorKind::Connect);
            assert!(is_tls, "{what}: {error}");
            assert!(format!("{error:#}").contains(words), "{what}: {error}");
            assert!(!format!("{error:#}").contains("SECRET"), "{what}: {error}");
            assert_eq!(listener.state(), State::Connected, "{what}");
            close(listener).await;
            let visitors = all(&server, 5).await;
            assert_eq!(visitors.len(), 5, "{what}: another connection was opened");
            for visitor in &visitors[1..4] {
                assert_eq!(visitor.before, hex("00000008 04d2162f"), "{what}");
                // No byte of a login was sent: bytes of TLS at most.
                assert_eq!(
                    (&visitor.startup[..], &visitor.mechanism[..]),
                    (&b""[..], ""),
                    "{what}"
                );
                let first = visitor.afterwards.first();
                assert!(matches!(first, None | Some(0x15 | 0x16)), "{what}: {visitor:?}");
            }
            assert_eq!(visitors[4], visitors[0], "{what}");
        });
    }
}

/// Over TLS, with the valid certificate: the server does not prove that it has the password.
#[test]
fn v2_a_login_below_the_requirements_ends_the_listener_and_no_byte_is_sent() {
    let zoo = Zoo::new();
    let code = |code: u32, more: &[u8]| message(b'R', &[&code.to_be_bytes()[..], more].concat());
    for (what, bytes) in [
        ("no binding is offered", hex(SASL)),
        ("the password in the clear", code(3, b"")),
        ("MD5", code(5, &[1, 2, 3, 4])),
        ("no password at all", code(0, b"")),
        ("in at once", pgbell::testing::Script::PRELUDE.to_vec()),
        ("another mechanism", code(10, b"SCRAM-SHA-1-PLUS\0\0")),
    ] {
        // Alone the error is final. If another password may help, the listener tries again, and reaches the valid server.
        for goes_on in [false, true] {
            let lose = Act::Lose { close_notify: false };
            let say = Act::Send(bytes.clone());
            let server = zoo.serve(vec![lose, say.clone(), say, Act::Serve]);
            runtime().block_on(async {
                let mut config = zoo.strict(&server, "");
                if goes_on {
                    let password = async |_| Ok::<_, std::io::Error>(PASSWORD);
                    config = config.password_provider(password);
                }
                let mut listener = connect(config).await;
                let gap = gap(&mut listener).await;
                assert_eq!(gap.sessions(), 1, "{what}");
                let error = if goes_on {
                    assert_eq!(gap.attempts(), 3, "{what}");
                    listener.last_error().unwrap()
                } else {
                    soon("the end", listener.recv()).await.unwrap_err()
                };
                check_text(&error);
                let is_refusal = matches!(error.kind(), ErrorKind::Auth | ErrorKind::Unsupported);
                assert!(is_refusal, "{what}: {error}");
                close(listener).await;
                let count = if goes_on { 4 } else { 2 };
                let visitors = all(&server, count).await;
                assert_eq!(visitors.len(), count, "{what}: another connection was opened");
                for visitor in &visitors[1..count.min(3)] {
                    assert_eq!(visitor.startup, server.visitors()[0].startup, "{what}");
                    assert_eq!(visitor.afterwards, b"", "{what}");
                }
                if goes_on {
                    assert_eq!(visitors[3], visitors[0], "{what}");
                }
            });
        }
    }
}

/// Also T11.
#[test]
fn the_end_of_tls_with_and_without_close_notify_is_a_gap() {
    let zoo = Zoo::new();
    for close_notify in [false, true] {
        let server = zoo.serve(vec![Act::Lose { close_notify }, Act::Serve]);
        runtime().block_on(async {
            let mut listener = connect(zoo.strict(&server, "")).await;
            let gap = gap(&mut listener).await;
            assert_eq!((gap.sessions(), gap.attempts()), (1, 1), "{close_notify}");
            let cause = gap.cause();
            assert!(matches!(cause.kind(), ErrorKind::Connect | ErrorKind::Tls), "{cause}");
            // Without close_notify, the end of TLS is not authenticated, which the error states.
            assert_eq!(
                format!("{cause:#}").contains("without close_notify"),
                !close_notify,
                "{cause}"
            );
            close(listener).await;
        });
    }
}
