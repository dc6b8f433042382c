//! In every state a listener can be closed in time, and leaves no task and no socket.

use std::time::{Duration, Instant};

use pgbell::{ErrorKind, Event, Listener, Live, Overflow, State};
use pgbell_testkit::{Cut, Direction, Flow, Mode, Proxy};

use crate::support::{Server, TEST_TIMEOUT, next, number, run, send_numbers, until, until_gone};

/// The longest time of `close`, and a margin for a busy machine.
const CLOSED: Duration = Duration::from_millis(1_000 + 1_500);

/// Returns the number of sockets of this process.
fn sockets() -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let is_socket = |entry: &std::fs::DirEntry| {
        std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
    };
    links.filter(|entry| entry.as_ref().is_ok_and(is_socket)).count()
}

/// Returns the number of tasks of the runtime.
fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Closes the listener, and then the proxy, whose sockets belong to this process too.
async fn closes(
    what: &str,
    listener: Listener,
    proxy: Option<Proxy>,
    (sockets_before, tasks_before): (usize, usize),
) {
    let begin = Instant::now();
    listener.close().await;
    let took = begin.elapsed();
    assert!(took < CLOSED, "{what}: {took:?}");
    drop(proxy);
    until(what, || sockets() <= sockets_before && tasks() <= tasks_before).await;
    report!("{what}: closed after {took:?}");
}

/// P11. Promise R9.
#[test]
fn close_returns_in_time_in_every_state_and_leaves_no_task_and_no_socket() {
    let server = Server::start();
    let cluster = &server.cluster;
    run(async {
        let mut admin = server.connection().await;
        let before = (sockets(), tasks());
        let quick = |builder: pgbell::ListenerBuilder| {
            builder.backoff(Duration::from_millis(10), Duration::from_millis(50))
        };

        let listener = server.listener(&["a"]).await;
        let process_id = listener.process_id();
        closes("idle", listener, None, before).await;
        until_gone(&mut admin, process_id).await;

        // An attempt that gets no answer.
        let proxy = Proxy::start(cluster.port()).unwrap();
        let url = proxy.url(cluster.superuser(), cluster.superuser_password(), "postgres");
        let listener = quick(Listener::builder(&url).channels(["a"])).connect().await.unwrap();
        proxy.handle().set(Direction::ToClient, Flow::Hold);
        proxy.handle().cut(Cut::Reset).unwrap();
        until("the loss is noticed", || listener.state() == State::Reconnecting).await;
        until("an attempt is under way", || listener.stats().attempts >= 2).await;
        closes("logging in", listener, Some(proxy), before).await;

        let proxy = Proxy::start(cluster.port()).unwrap();
        let url = proxy.url(cluster.superuser(), cluster.superuser_password(), "postgres");
        let builder = quick(Listener::builder(&url).channels(["a"]));
        let builder = builder.heartbeat(Duration::from_millis(50), TEST_TIMEOUT);
        let listener = builder.connect().await.unwrap();
        proxy.handle().set(Direction::ToClient, Flow::Hold);
        let heartbeats = listener.stats().heartbeats;
        until("a heartbeat is in flight", || listener.stats().heartbeats > heartbeats).await;
        closes("a heartbeat in flight", listener, Some(proxy), before).await;

        let proxy = Proxy::start(cluster.port()).unwrap();
        let url = proxy.url(cluster.superuser(), cluster.superuser_password(), "postgres");
        let builder = quick(Listener::builder(&url).channels(["a"]));
        let listener = builder.connect().await.unwrap();
        proxy.handle().set(Direction::ToServer, Flow::Hold);
        // Much more than the socket buffers can take.
        let names: Vec<String> = (0..200_000).map(|n| format!("{n:060}")).collect();
        let handle = listener.handle();
        let writing = tokio::spawn(async move { handle.listen_all(names).await });
        tokio::task::yield_now().await;
        closes("a blocked write", listener, Some(proxy), (before.0, before.1 + 1)).await;
        assert!(writing.await.unwrap().is_err());

        let listener =
            quick(Listener::builder(server.url()).channels(["a"])).connect().await.unwrap();
        tokio::task::block_in_place(|| cluster.stop(Mode::Immediate).unwrap());
        until("backoff", || listener.stats().attempts >= 2).await;
        closes("backoff", listener, None, before).await;
        tokio::task::block_in_place(|| cluster.start_again().unwrap());

        for overflow in [Overflow::Block { max_stall: TEST_TIMEOUT }, Overflow::DropNewest] {
            let builder = Listener::builder(server.url()).channels(["a"]).queue_capacity(10);
            let listener = builder.overflow(overflow).connect().await.unwrap();
            let mut writer = server.connection().await;
            send_numbers(&mut writer, "a", 1, 10_000).await;
            until("the queue is full", || listener.stats().queued == 10).await;
            writer.close().await;
            closes("a full queue", listener, None, before).await;
        }

        let listener = server.listener(&["a"]).await;
        let handle = listener.handle();
        let query = tokio::spawn(async move { handle.simple_query("SELECT pg_sleep(60)").await });
        tokio::task::yield_now().await;
        closes("a query in flight", listener, None, before).await;
        assert!(query.await.unwrap().is_err());

        let hook = |_, live| async move {
            match live {
                Live::Start => Ok(()),
                _ => std::future::pending().await,
            }
        };
        let builder = Listener::builder(server.url()).channels(["a"]).on_live(hook);
        let listener = builder.connect().await.unwrap();
        server.cluster.terminate_backend(listener.process_id().unwrap()).unwrap();
        until("the hook runs", || listener.stats().hooks == 2).await;
        closes("a hook that never ends", listener, None, before).await;
    });
}

/// Promise S11.
#[test]
fn a_drain_delivers_everything_committed_before_it_and_then_ends() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["a"]).await;
        let handle = listener.handle();
        let mut writer = server.connection().await;
        send_numbers(&mut writer, "a", 1, 10_000).await;
        let draining = tokio::spawn(async move { handle.drain(TEST_TIMEOUT).await });
        for expect in 1..=10_000 {
            assert_eq!(number(next(&mut listener).await.payload_bytes()), expect);
        }
        draining.await.unwrap().unwrap();
        assert_eq!(listener.recv().await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(listener.drain(TEST_TIMEOUT).await.unwrap_err().kind(), ErrorKind::Closed);
    });
}

/// Promise S11.
#[test]
fn a_drain_without_a_session_reports_the_loss_and_ends() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["a"]).await;
        tokio::task::block_in_place(|| server.cluster.stop(Mode::Immediate).unwrap());
        until("the loss is noticed", || listener.state() == State::Reconnecting).await;
        listener.drain(TEST_TIMEOUT).await.unwrap();
        assert!(matches!(listener.recv().await.unwrap(), Event::Gap(_)));
        assert_eq!(listener.recv().await.unwrap_err().kind(), ErrorKind::Closed);
    });
}

/// It returned success without the answer to its heartbeat query.
#[test]
fn a_drain_whose_heartbeat_query_is_refused_sends_simpler_ones() {
    let server = Server::start();
    run(async {
        let mut admin = server.connection().await;
        admin.simple_query("CREATE ROLE bell LOGIN PASSWORD 'x'").await.unwrap();
        let url = server.cluster.url("bell", "x", "postgres");
        for (revoked, refusals) in [("sha256(bytea)", 1), ("pg_listening_channels()", 2)] {
            let sql = format!("REVOKE EXECUTE ON FUNCTION pg_catalog.{revoked} FROM PUBLIC");
            admin.simple_query(&sql).await.unwrap();
            let mut listener = Listener::builder(&url).channels(["a"]).connect().await.unwrap();
            admin.notify("a", "x").await.unwrap();
            listener.drain(TEST_TIMEOUT).await.unwrap();
            assert_eq!(listener.stats().heartbeats_refused, refusals, "{revoked}");
            assert_eq!(next(&mut listener).await.payload(), "x");
            assert_eq!(listener.recv().await.unwrap_err().kind(), ErrorKind::Closed);
        }
    });
}

/// Promise S11.
#[test]
fn a_drain_that_exceeds_its_timeout_returns_an_error() {
    let server = Server::start();
    let cluster = &server.cluster;
    let proxy = Proxy::start(cluster.port()).unwrap();
    run(async {
        let url = proxy.url(cluster.superuser(), cluster.superuser_password(), "postgres");
        let listener = Listener::builder(&url).channels(["a"]).connect().await.unwrap();
        proxy.handle().set(Direction::ToClient, Flow::Hold);
        let begin = Instant::now();
        let error = listener.drain(Duration::from_millis(200)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(begin.elapsed() < CLOSED, "{:?}", begin.elapsed());
    });
}
