//! Several servers in one configuration: which one is used, and the error when none can be used.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pgbell::testing::{BackendConfig, Delivery, Script, Server};
use pgbell::{Connection, ErrorKind, Listener, Notifier};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::{server, soon};

/// Returns a port on which no server listens.
async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// A server that accepts connections and never sends a byte.
async fn silent() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn conninfo(ports: &[u16], more: &str) -> String {
    let hosts = vec!["127.0.0.1"; ports.len()].join(",");
    let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
    format!("host={hosts} port={} user=postgres sslmode=disable {more}", ports.join(","))
}

type Played = JoinHandle<Result<(), pgbell::testing::Mismatch>>;

async fn play(script: Script) -> (SocketAddr, Played) {
    script.serve(Delivery::Whole).await.unwrap()
}

/// The facts of a server that is a standby.
fn standby_facts() -> Vec<u8> {
    let mut facts = Script::FACTS.to_vec();
    let at = facts.windows(5).position(|five| five == b"\0\0\0\x01f").unwrap();
    facts[at + 4] = b't';
    facts
}

fn standby() -> Script {
    Script::let_in().expect_message(b'Q').send(standby_facts()).wait_for_eof()
}

#[tokio::test]
async fn a_port_on_which_no_server_listens_leads_to_the_next_server() {
    let server = server().await;
    let ports = [closed_port().await, server.port()];
    let mut connection = soon(Connection::connect(conninfo(&ports, ""))).await.unwrap();
    soon(connection.listen("a")).await.unwrap();
    let mut listener = soon(Listener::connect(conninfo(&ports, ""))).await.unwrap();
    soon(listener.listen("a")).await.unwrap();
    let notifier = soon(Notifier::connect(conninfo(&ports, ""))).await.unwrap();
    soon(notifier.notify("a", "x")).await.unwrap();
    assert_eq!(soon(connection.recv_batch()).await.unwrap().len(), 1);
    soon(listener.recv()).await.unwrap();
}

/// T21: a server that accepts and never answers takes only its share of the time.
#[tokio::test]
async fn a_silent_server_leaves_time_for_the_next() {
    let server = server().await;
    let (_listener, port) = silent().await;
    let begin = Instant::now();
    let config = conninfo(&[port, server.port()], "connect_timeout=4");
    soon(Connection::connect(config)).await.unwrap();
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test]
async fn when_no_server_can_be_used_each_is_named_with_its_reason() {
    let closed = closed_port().await;
    let (_listener, silent) = silent().await;
    let config = conninfo(&[closed, silent], "connect_timeout=2");
    let error = soon(Connection::connect(config)).await.unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains(&format!("127.0.0.1:{closed}: ")), "{text}");
    assert!(text.contains(&format!("127.0.0.1:{silent}: ")), "{text}");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{text}");
}

/// As in libpq: a wrong password is not sent to the next server.
#[tokio::test]
async fn a_wrong_password_is_not_tried_at_the_next_server() {
    let config = || {
        let config = BackendConfig::new().auth(pgbell::testing::Auth::ScramSha256);
        config.user("postgres", "right")
    };
    let first = Server::start(config()).await.unwrap();
    let (second, port) = silent().await;
    let config = conninfo(&[first.port(), port], "password=wrong");
    let error = soon(Connection::connect(config)).await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Auth, Some("28P01")), "{error}");
    let asked = tokio::time::timeout(Duration::from_millis(50), second.accept()).await;
    assert!(asked.is_err(), "the second server was asked too");
}

/// 57P03: the server starts up or recovers.
#[tokio::test]
async fn a_server_that_is_not_ready_yet_leads_to_the_next() {
    let server = server().await;
    let refusal = b"E\0\0\0\x37SFATAL\0C57P03\0Mthe database system is starting up\0\0";
    let (address, played) = play(Script::new().expect_startup().send(refusal).close()).await;
    let config = conninfo(&[address.port(), server.port()], "");
    soon(Connection::connect(config)).await.unwrap();
    soon(played).await.unwrap().unwrap();
}

/// LISTEN needs the primary, so the listener chooses it.
#[tokio::test]
async fn of_several_servers_the_primary_is_chosen() {
    let primary = server().await;
    let (address, played) = play(standby()).await;
    let ports = [address.port(), primary.port()];
    soon(Listener::connect(conninfo(&ports, ""))).await.unwrap();
    soon(played).await.unwrap().unwrap();

    let (address, played) = play(standby()).await;
    let ports = [address.port(), primary.port()];
    let connection = soon(Connection::connect(conninfo(&ports, ""))).await.unwrap();
    soon(played).await.unwrap().unwrap();
    drop(connection);
}

#[tokio::test]
async fn a_listener_refuses_a_standby_with_its_address_and_a_hint() {
    let (address, _played) = play(standby()).await;
    let config = conninfo(&[address.port()], "");
    let error = soon(Listener::connect(config)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Standby, "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("primary")), "{error}");
}

#[tokio::test]
async fn a_connection_to_a_standby_is_accepted_by_default() {
    for (attrs, expected) in [
        ("any", Ok(())),
        ("standby", Ok(())),
        ("read-only", Ok(())),
        ("prefer-standby", Ok(())),
        ("primary", Err(ErrorKind::Standby)),
        ("read-write", Err(ErrorKind::Standby)),
    ] {
        let (address, _played) = play(standby()).await;
        let config = conninfo(&[address.port()], &format!("target_session_attrs={attrs}"));
        let found = soon(Connection::connect(config)).await;
        assert_eq!(found.map(drop).map_err(|error| error.kind()), expected, "{attrs}");
    }
}

#[tokio::test]
async fn a_preferred_standby_may_be_missing() {
    let server = server().await;
    let ports = [closed_port().await, server.port()];
    let config = conninfo(&ports, "target_session_attrs=prefer-standby");
    soon(Connection::connect(config)).await.unwrap();
}

#[tokio::test]
async fn in_random_order_every_server_is_used() {
    let servers = [server().await, server().await];
    let ports = [servers[0].port(), servers[1].port()];
    let mut used = BTreeSet::new();
    // The chance that one of the two is never first: 2^-39.
    for _ in 0..40 {
        let config = conninfo(&ports, "load_balance_hosts=random target_session_attrs=any");
        let connection = soon(Connection::connect(config)).await.unwrap();
        used.insert(servers.iter().position(|server| server.clients() > 0).unwrap());
        soon(connection.close()).await;
        while servers.iter().any(|server| server.clients() > 0) {
            tokio::task::yield_now().await;
        }
        if used.len() == 2 {
            return;
        }
    }
    panic!("only {used:?}");
}

/// A server that sends no key is not PostgreSQL itself: the client requires a delivery proof.
#[tokio::test]
async fn a_server_that_gives_no_key_must_prove_that_it_delivers() {
    const UNLISTENED: &[u8] = b"C\0\0\0\x0dUNLISTEN\0Z\0\0\0\x05I";
    let keyless = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x19client_encoding\0UTF8\0Z\0\0\0\x05I";
    let script = Script::new().expect_startup().send(keyless).expect_message(b'Q');
    let listening = script.send(Script::FACTS).expect_message(b'Q').send(Script::ACK);
    for listens_at_once in [true, false] {
        let script = match listens_at_once {
            true => listening.clone(),
            // The client leaves the private channel, and continues.
            false => listening.clone().expect_message(b'Q').send(UNLISTENED),
        };
        let script = script.wait_for_eof();
        // The server takes one connection: no second one can send the notification.
        let (address, played) = play(script).await;
        let config = conninfo(&[address.port()], "connect_timeout=2");
        let error = if listens_at_once {
            soon(Listener::connect(config)).await.unwrap_err()
        } else {
            let mut connection = soon(Connection::connect(config)).await.unwrap();
            soon(connection.listen("a")).await.unwrap_err()
        };
        assert_eq!(error.kind(), ErrorKind::Pooler, "{error}");
        soon(played).await.unwrap().unwrap();
    }
}

/// The number of times that the text of an error contains `text`.
fn count(error: &pgbell::Error, text: &str) -> usize {
    format!("{error:#}").matches(text).count()
}

#[tokio::test]
async fn a_refusal_at_the_login_names_the_server_once() {
    use pgbell::testing::Auth;

    let config = BackendConfig::new().auth(Auth::ScramSha256).user("ann", "pl4nted");
    let server = Server::start(config).await.unwrap();
    let address = format!("127.0.0.1:{}", server.port());
    for (host, user, password, named) in [
        ("127.0.0.1", "ann", "wrong", address.clone()),
        ("127.0.0.1", "nobody", "wrong", address.clone()),
        ("localhost", "ann", "wrong", format!("localhost:{} (127.0.0.1)", server.port())),
    ] {
        let host = format!("host={host} hostaddr=127.0.0.1 port={}", server.port());
        let config = format!("{host} user={user} password={password} sslmode=disable");
        let error = soon(Connection::connect(&config)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
        let begin = format!("authentication: {named}: ");
        assert!(error.to_string().starts_with(&begin), "{error}");
        assert_eq!(count(&error, &server.port().to_string()), 1, "{error:#}");
        let error = soon(Listener::connect(&config)).await.unwrap_err();
        assert!(error.to_string().starts_with(&begin), "{error}");
    }
}

#[tokio::test]
async fn a_port_on_which_no_server_listens_is_named_once_with_its_cause_and_the_hint() {
    let ports = [closed_port().await, closed_port().await];
    let error = soon(Connection::connect(conninfo(&ports, ""))).await.unwrap_err();
    for port in ports {
        let refused = format!("127.0.0.1:{port}: Connection refused");
        assert_eq!(
            (count(&error, &port.to_string()), count(&error, &refused)),
            (1, 1),
            "{error:#}"
        );
    }
    assert_eq!((count(&error, "connection: "), count(&error, "(hint: ")), (1, 1), "{error:#}");
    let error = soon(Connection::connect(conninfo(&ports[..1], ""))).await.unwrap_err();
    let begin = format!("connection: 127.0.0.1:{}: Connection refused", ports[0]);
    assert!(error.to_string().starts_with(&begin), "{error}");
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_has_a_hint() {
    let config = "host=no-such-host.invalid user=ann sslmode=disable";
    let error = soon(Connection::connect(config)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert_eq!(count(&error, "no-such-host.invalid:5432: "), 1, "{error}");
    let hint = error.hint().unwrap();
    assert!(hint.contains("not known to the resolver") && hint.contains("DNS"), "{hint}");
}
