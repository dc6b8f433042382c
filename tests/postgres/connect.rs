//! Connecting: every way to name a server, and every way to fail.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use pgbell::{Config, Connection, ErrorKind, Listener, Notifier, Overflow, State};
use pgbell_testkit::Mode;

use crate::support::{Server, next, run, value};

/// A port at which nothing listens.
fn refused_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// P1: a URL, a key=value string and a `Config` connect to the same server. The state is `Connected`.
#[test]
fn a_url_a_string_and_a_config_connect() {
    let server = Server::start();
    run(async {
        let port = server.cluster.port();
        let config =
            || Config::new().host("127.0.0.1").port(port).user("postgres").dbname("postgres");
        let url = server.cluster.url("postgres", None, "postgres");
        let pairs = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
        let socket = server.cluster.socket_url("postgres", None, "postgres");
        for mut connection in [
            Connection::connect(&*url).await.unwrap(),
            Connection::connect(pairs.clone()).await.unwrap(),
            Connection::connect(config()).await.unwrap(),
            Connection::connect(&config()).await.unwrap(),
            Connection::connect(&*socket).await.unwrap(),
        ] {
            assert_eq!(value(&mut connection, "SELECT 1").await, "1");
            assert_eq!(connection.parameter("client_encoding"), Some("UTF8"));
        }
        for listener in [
            Listener::connect(&*url).await.unwrap(),
            Listener::connect(pairs).await.unwrap(),
            Listener::connect(config()).await.unwrap(),
            Listener::connect(&*socket).await.unwrap(),
        ] {
            assert_eq!(listener.state(), State::Connected);
            assert_eq!(listener.stats().sessions, 1);
        }
    });
}

/// Checked before anything is sent: a user that may write to the directory could create a socket of that name.
#[cfg(target_os = "linux")]
#[test]
fn a_server_of_another_account_is_refused_by_requirepeer() {
    use std::os::unix::fs::MetadataExt;

    let server = Server::start();
    let process = format!("/proc/{}", server.cluster.postmaster_pid().unwrap());
    let account = std::fs::metadata(process).unwrap().uid().to_string();
    run(async {
        let config: Config =
            server.cluster.socket_url("postgres", None, "postgres").parse().unwrap();
        Connection::connect(config.clone().require_peer(account)).await.unwrap();
        for account in ["4294967294", "nobody at all"] {
            let config = config.clone().require_peer(account);
            for error in [
                Connection::connect(&config).await.unwrap_err(),
                Listener::connect(&config).await.unwrap_err(),
                Notifier::connect(&config).await.unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
                assert!(format!("{error:#}").contains("requirepeer"), "{error}");
            }
        }
        // A TCP connection has no peer account to check, as in libpq.
        let config: Config = server.url().parse().unwrap();
        Connection::connect(config.require_peer("nobody at all")).await.unwrap();
    });
}

/// P1: the first error is returned.
#[test]
fn a_refused_port_is_a_connect_error() {
    run(async {
        let url = format!("postgres://user:se-cret@127.0.0.1:{}/db", refused_port());
        for error in [
            Connection::connect(&url).await.unwrap_err(),
            Listener::connect(&url).await.unwrap_err(),
            Notifier::connect(&url).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
            assert!(error.is_transient());
            assert!(format!("{error:#}").contains("127.0.0.1"), "{error}");
            assert!(!format!("{error}{error:?}").contains("se-cret"));
        }
    });
}

/// P1: the first connect is not retried: a server that closes the connection sees one connection.
#[test]
fn a_first_connect_that_fails_is_not_retried() {
    run(async {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("postgres://user@{}/db?sslmode=disable", server.local_addr().unwrap());
        let accept = std::thread::spawn(move || {
            drop(server.accept().unwrap());
            server
        });
        let error = Listener::connect(&url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
        let server = accept.join().unwrap();
        server.set_nonblocking(true).unwrap();
        assert_eq!(server.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    });
}

/// P1: a server that accepts the connection and sends nothing causes a timeout.
#[test]
fn a_silent_server_is_a_timeout() {
    run(async {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let config = || {
            let config = Config::new().host("127.0.0.1").port(port).user("user");
            config.connect_timeout(Duration::from_secs(1))
        };
        let connection = Connection::connect(config()).await.unwrap_err();
        let listener = Listener::connect(config()).await.unwrap_err();
        for error in [connection, listener] {
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            assert!(error.is_transient());
        }
    });
}

/// P2: invalid values are refused with their name, before any connection.
#[test]
fn invalid_values_are_refused_by_name() {
    run(async {
        let url = format!("postgres://user@127.0.0.1:{}/db", refused_port());
        let builder = || Listener::builder(&*url);
        let block = Overflow::Block { max_stall: Duration::ZERO };
        let second = Duration::from_secs(1);
        for (name, builder) in [
            ("queue_capacity", builder().queue_capacity(0)),
            ("queue_capacity", builder().queue_capacity(usize::MAX)),
            ("queue_bytes", builder().queue_bytes(0)),
            ("queue_bytes", builder().queue_bytes(256 * 1024)),
            ("max_stall", builder().overflow(block)),
            ("backoff from 2s to 1s", builder().backoff(second * 2, second)),
            ("backoff from 0ns", builder().backoff(Duration::ZERO, second)),
            ("heartbeat", builder().heartbeat(Duration::ZERO, second)),
            ("heartbeat", builder().heartbeat(second, Duration::ZERO)),
            ("max_lifetime", builder().max_lifetime(second / 2)),
            ("on_live_timeout", builder().on_live_timeout(Duration::ZERO)),
            ("on_live_failures_max", builder().on_live_failures_max(0)),
            ("port", Listener::builder("postgres://user@127.0.0.1:0/db")),
            ("connect_timeout", Listener::builder("host=127.0.0.1 connect_timeout=soon")),
        ] {
            let error = builder.connect().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert!(format!("{error:#}").contains(name), "{name}: {error}");
        }
        let error = builder().channels(["good", ""]).connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
    });
}

/// P2: the limits themselves are valid values.
#[test]
fn the_smallest_queue_works() {
    let server = Server::start();
    run(async {
        let mut listener = Listener::builder(server.url())
            .channels(["ch"])
            .queue_capacity(1)
            .queue_bytes(256 * 1024 + 1)
            .overflow(Overflow::Block { max_stall: Duration::from_secs(30) })
            .connect()
            .await
            .unwrap();
        let notifier = server.notifier().await;
        let payloads: Vec<String> =
            (0..200).map(|i| format!("{i:>width$}", width = 40 * i)).collect();
        notifier.notify_many(payloads.iter().map(|payload| ("ch", payload))).await.unwrap();
        for payload in &payloads {
            assert_eq!(next(&mut listener).await.payload(), payload);
        }
    });
}

/// P13: every listener, connection and notifier has its own session, and keeps it.
#[test]
fn each_listener_has_a_session_of_its_own() {
    let server = Server::start();
    run(async {
        let mut watch = server.connection().await;
        let listeners = [server.listener(&["a"]).await, server.listener(&["a"]).await];
        let notifier = server.notifier().await;
        let pids = [
            watch.process_id(),
            listeners[0].process_id(),
            listeners[1].process_id(),
            notifier.process_id(),
        ];
        for _ in 0..20 {
            listeners[0].listen("b").await.unwrap();
            listeners[0].unlisten("b").await.unwrap();
        }
        assert_eq!(listeners[0].process_id(), pids[1]);
        let mut pids = pids.map(|pid| pid.unwrap().to_string());
        pids.sort_unstable();
        let sql = "SELECT string_agg(pid::text, ' ' ORDER BY pid::text) FROM pg_stat_activity \
                   WHERE backend_type = 'client backend' AND application_name = 'pgbell'";
        assert_eq!(value(&mut watch, sql).await, pids.join(" "));
    });
}

/// P13, S1: a program with a pool of two connections, both in use, receives through the session of its listener, from the same URL.
/// The pool stays as it is, whatever the listener does.
#[test]
fn a_listener_works_beside_a_pool_that_is_exhausted_and_takes_none_of_its_sessions() {
    let server = Server::start();
    run(async {
        let url = server.url();
        let pool = [server.connection().await, server.connection().await];
        let pooled = pool.each_ref().map(|one| one.process_id().unwrap());
        let (sender, idle) = tokio::sync::mpsc::channel(pool.len());
        for connection in pool {
            sender.try_send(connection).unwrap();
        }
        let mut idle = idle;
        let mut listener = Listener::connect(&*url).await.unwrap();
        listener.listen("Orders").await.unwrap();
        assert!(!pooled.contains(&listener.process_id().unwrap()));
        // Both are in use: one sends, and one is in a transaction.
        let (mut sending, mut open) = (idle.recv().await.unwrap(), idle.recv().await.unwrap());
        open.simple_query("BEGIN").await.unwrap();
        assert!(idle.try_recv().is_err());
        for number in 0..100 {
            let payload = number.to_string();
            let sql = "SELECT pg_notify('Orders', $1)";
            sending.query(sql, &[Some(payload.as_str())]).await.unwrap();
            assert_eq!(next(&mut listener).await.payload(), payload);
        }
        listener.listen("stock").await.unwrap();
        server.cluster.terminate_backend(listener.process_id().unwrap()).unwrap();
        let event = listener.recv().await.unwrap();
        assert!(matches!(event, pgbell::Event::Gap(_)), "{event:?}");
        sending.notify("stock", "after").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "after");
        // The sessions of the pool listen to nothing, and are the same.
        open.simple_query("COMMIT").await.unwrap();
        for (connection, process_id) in [&mut sending, &mut open].into_iter().zip(pooled) {
            assert_eq!(connection.process_id(), Some(process_id));
            let sql = "SELECT count(*) FROM pg_listening_channels()";
            assert_eq!(value(connection, sql).await, "0");
        }
        listener.close().await;
        assert_eq!(value(&mut sending, "SELECT 1").await, "1");
    });
}

#[test]
fn the_first_connect_is_retried_if_the_builder_says_so() {
    let server = Server::start();
    let url = server.cluster.url("postgres", None, "postgres");
    server.cluster.stop(Mode::Fast).unwrap();
    run(async {
        let builder = || {
            let delays = (Duration::from_millis(10), Duration::from_millis(50));
            Listener::builder(&*url).channels(["early"]).backoff(delays.0, delays.1)
        };
        let error = builder().connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
        // The limit ends it, with the last error.
        let limit = Duration::from_millis(300);
        let begin = Instant::now();
        let error = builder().retry_first_connect(limit).connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
        assert!(begin.elapsed() >= limit, "{:?}", begin.elapsed());
        let early = tokio::spawn(builder().retry_first_connect(Duration::MAX).connect());
        tokio::time::sleep(limit).await;
        assert!(!early.is_finished());
        server.cluster.start_again().unwrap();
        let mut listener = early.await.unwrap().unwrap();
        assert_eq!((listener.state(), listener.stats().sessions), (State::Connected, 1));
        let mut writer = Connection::connect(&*url).await.unwrap();
        writer.notify("early", "1").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "1");
        // A permanent error is returned at once.
        let begin = Instant::now();
        let other = server.cluster.url("stranger", None, "postgres");
        let refused = Listener::builder(&*other).retry_first_connect(Duration::from_secs(600));
        assert_eq!(refused.connect().await.unwrap_err().sqlstate(), Some("28000"));
        let misuse = builder().channels([""]).retry_first_connect(Duration::from_secs(600));
        assert_eq!(misuse.connect().await.unwrap_err().kind(), ErrorKind::Misuse);
        assert!(begin.elapsed() < Duration::from_secs(300));
    });
}

/// In an earlier version every connection of such a role failed.
#[test]
fn a_role_that_may_not_call_a_function_of_the_network_connects() {
    let server = Server::start();
    run(async {
        let mut admin = server.connection().await;
        let sql = "CREATE ROLE hidden LOGIN; \
                   REVOKE EXECUTE ON FUNCTION pg_catalog.inet_server_port() FROM PUBLIC";
        admin.simple_query(sql).await.unwrap();
        let url = server.cluster.url("hidden", None, "postgres");
        let mut listener = Listener::builder(&*url).channels(["a"]).connect().await.unwrap();
        admin.notify("a", "1").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "1");
        Connection::connect(&*url).await.unwrap().listen("a").await.unwrap();
        Notifier::connect(&*url).await.unwrap().notify("a", "2").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "2");
    });
}
