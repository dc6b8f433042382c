//! The task of a listener, when several actions, states and hooks come at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgbell::testing::Script;
use pgbell::{ErrorKind, Event, Listener, Live, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::support::{let_listen, listener, message, refuse, server, soon};

/// An ErrorResponse.
fn error(severity: &str) -> Vec<u8> {
    error_of(severity, "57P01")
}

fn error_of(severity: &str, code: &str) -> Vec<u8> {
    let fields = format!("S{severity}\0V{severity}\0C{code}\0Mgone\0\0");
    message(b'E', fields.as_bytes())
}

/// Logs a client in and reads its `LISTEN "a"`. The test sends the answer.
async fn let_ask(server: &TcpListener) -> TcpStream {
    let mut socket = let_listen(server).await;
    let mut message = [0; 5 + 11];
    socket.read_exact(&mut message).await.unwrap();
    assert_eq!(&message[5..15], b"LISTEN \"a\"");
    socket
}

#[tokio::test]
async fn a_hook_that_runs_again_at_once_delays_nothing() {
    let (server, url) = listener().await;
    let gate = Arc::new(Semaphore::new(1));
    let hooks_gate = gate.clone();
    let builder = Listener::builder(&url).channels(["a"]).heartbeat(Duration::MAX, Duration::MAX);
    let builder = builder.on_live(move |_connection, _live| {
        let gate = hooks_gate.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(())
        }
    });
    let serve = async {
        let mut socket = let_ask(&server).await;
        socket.write_all(Script::ACK).await.unwrap();
        (socket, let_listen(&server).await)
    };
    let (connected, (mut socket, _first_hook)) = tokio::join!(builder.connect(), serve);
    let mut listener = connected.unwrap();
    tokio::spawn(async move {
        let mut hooks = Vec::new();
        loop {
            hooks.push(let_listen(&server).await);
        }
    });
    // A server before 18.2 reports that it has dropped a notification, and again while the hook runs.
    let dropped = [&error("ERROR")[..], b"Z\0\0\0\x05I"].concat();
    socket.write_all(&dropped).await.unwrap();
    while listener.stats().hooks < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(listener.state(), State::CatchingUp);
    socket.write_all(&[&dropped[..], Script::A1].concat()).await.unwrap();
    while listener.stats().received < 1 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(2);
    let event = tokio::time::timeout(Duration::from_secs(2), listener.recv()).await;
    assert!(matches!(event, Ok(Ok(Event::Gap(_)))), "{event:?}");
    assert!(matches!(soon(listener.recv()).await, Ok(Event::Notification(_))));
    let stats = listener.stats();
    assert_eq!((stats.hooks, stats.gaps, stats.dropped_by_server), (3, 1, 1));
}

#[tokio::test]
async fn a_listener_whose_first_session_ends_in_the_read_that_makes_it_live_reconnects() {
    let (server, url) = listener().await;
    let delay = Duration::from_millis(1);
    let builder = Listener::builder(&url).channels(["a"]).backoff(delay, delay);
    let serve = async {
        let mut socket = let_ask(&server).await;
        // Read at once.
        socket.write_all(&[Script::ACK, Script::A1, &error("FATAL")].concat()).await.unwrap();
        let mut second = let_ask(&server).await;
        second.write_all(&[Script::ACK, Script::A1].concat()).await.unwrap();
        [socket, second]
    };
    let (connected, _sockets) = soon(async { tokio::join!(builder.connect(), serve) }).await;
    let mut listener = connected.unwrap();
    assert!(matches!(soon(listener.recv()).await, Ok(Event::Notification(_))));
    let Event::Gap(gap) = soon(listener.recv()).await.unwrap() else { panic!("no gap") };
    assert_eq!(gap.cause().sqlstate(), Some("57P01"));
    assert!(matches!(soon(listener.recv()).await, Ok(Event::Notification(_))));
}

#[tokio::test]
async fn a_state_that_lasts_no_longer_than_one_read_wakes_its_waiter() {
    let (server, url) = listener().await;
    let delay = Duration::from_millis(1);
    let builder = Listener::builder(&url).channels(["a"]).backoff(delay, delay);
    let serve = async {
        let mut socket = let_ask(&server).await;
        socket.write_all(Script::ACK).await.unwrap();
        socket
    };
    let (connected, socket) = tokio::join!(builder.connect(), serve);
    let handle = connected.as_ref().unwrap().handle();
    drop(socket);
    soon(handle.wait_state(State::Reconnecting)).await.unwrap();
    let serve = async {
        let mut second = let_ask(&server).await;
        tokio::task::yield_now().await;
        second.write_all(&[Script::ACK, Script::A1, &error("FATAL")].concat()).await.unwrap();
        second
    };
    // There is no third session.
    let (seen, _second) =
        soon(async { tokio::join!(handle.wait_state(State::Connected), serve) }).await;
    seen.unwrap();
}

#[tokio::test]
async fn the_process_id_after_a_handover_is_that_of_the_new_session() {
    let server = server().await;
    let listener = Listener::builder(server.url()).channels(["a"]).connect().await.unwrap();
    let before = listener.process_id();
    listener.handle().rotate().await.unwrap();
    while listener.stats().handovers < 1 {
        tokio::task::yield_now().await;
    }
    let rows = soon(listener.simple_query("SELECT pg_backend_pid()")).await.unwrap();
    let now: i32 = rows[0].get(0).unwrap().get(0).unwrap().parse().unwrap();
    assert_eq!(listener.process_id(), Some(now));
    assert_ne!(before, Some(now));
}

#[tokio::test]
async fn a_hook_whose_server_refuses_its_connection_runs_again_and_connects_to_no_other_server() {
    let ((server, url), (other, _)) = (listener().await, listener().await);
    let (port, other_port) =
        (server.local_addr().unwrap().port(), other.local_addr().unwrap().port());
    let url = url.replace("host=127.0.0.1", "host=127.0.0.1,127.0.0.1");
    let url = url.replace(&format!("port={port}"), &format!("port={port},{other_port}"));
    let delay = Duration::from_millis(1);
    let builder = Listener::builder(url.as_str()).channels(["a"]).backoff(delay, delay);
    let builder = builder.on_live(|_, _| async { Ok(()) });
    let refused_at_first = async {
        let mut socket = let_ask(&server).await;
        socket.write_all(Script::ACK).await.unwrap();
        refuse(&server, &error_of("FATAL", "53300")).await;
        socket
    };
    let connect = builder.clone().connect();
    let (refused, _socket) = soon(async { tokio::join!(connect, refused_at_first) }).await;
    assert_eq!(refused.unwrap_err().sqlstate(), Some("53300"));
    let serve = async {
        let mut socket = let_ask(&server).await;
        socket.write_all(Script::ACK).await.unwrap();
        (socket, let_listen(&server).await)
    };
    let (connected, sockets) = soon(async { tokio::join!(builder.connect(), serve) }).await;
    let mut listener = connected.unwrap();
    drop(sockets);
    let serve = async {
        let mut socket = let_ask(&server).await;
        socket.write_all(&[Script::ACK, Script::A1].concat()).await.unwrap();
        refuse(&server, &error_of("FATAL", "53300")).await;
        (socket, let_listen(&server).await)
    };
    let (gap, _sockets) = soon(async { tokio::join!(listener.recv(), serve) }).await;
    assert!(matches!(gap, Ok(Event::Gap(_))), "{gap:?}");
    assert!(matches!(soon(listener.recv()).await, Ok(Event::Notification(_))));
    let stats = listener.stats();
    assert_eq!((stats.hooks, stats.hook_failures), (3, 1));
    assert_eq!(listener.last_error().unwrap().sqlstate(), Some("53300"));
    // The other server was not connected to.
    let called = tokio::time::timeout(Duration::from_millis(50), other.accept()).await;
    assert!(called.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_hook_runs_after_the_close_of_its_listener() {
    struct DropFlag(Arc<AtomicBool>);
    impl Drop for DropFlag {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let server = server().await;
    let (runs, gone) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicBool::new(false)));
    let (hooks_runs, hooks_gone) = (runs.clone(), gone.clone());
    let builder =
        Listener::builder(server.url()).channels(["a"]).on_live(move |connection, live| {
            let (runs, gone) = (hooks_runs.clone(), hooks_gone.clone());
            async move {
                if let Live::Start = live {
                    connection.close().await;
                    return Ok(());
                }
                let gone = DropFlag(gone);
                runs.add_permits(1);
                // The hook does not reach its next await soon.
                std::thread::sleep(Duration::from_millis(300));
                let _held = (gone, connection);
                std::future::pending().await
            }
        });
    let listener = builder.connect().await.unwrap();
    server.terminate(listener.process_id().unwrap());
    soon(runs.acquire()).await.unwrap().forget();
    soon(listener.close()).await;
    assert!(gone.load(Ordering::SeqCst), "the hook still has its connection");
}

/// A password file may contain the new password at the next attempt.
#[tokio::test]
async fn a_refused_login_is_tried_again_if_the_user_allows_it() {
    for retries in [false, true] {
        let (server, url) = listener().await;
        let delay = Duration::from_millis(1);
        let builder = Listener::builder(&url).channels(["a"]).backoff(delay, delay);
        let builder = if retries { builder.retry_refusals(true) } else { builder };
        let serve = async {
            let mut socket = let_ask(&server).await;
            socket.write_all(Script::ACK).await.unwrap();
            socket
        };
        let (connected, socket) = tokio::join!(builder.connect(), serve);
        let mut listener = connected.unwrap();
        drop(socket);
        soon(refuse(&server, &error_of("FATAL", "28P01"))).await;
        if !retries {
            assert!(matches!(soon(listener.recv()).await, Ok(Event::Gap(_))));
            let error = soon(listener.recv()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
            continue;
        }
        let mut socket = soon(let_ask(&server)).await;
        socket.write_all(Script::ACK).await.unwrap();
        assert!(matches!(soon(listener.recv()).await, Ok(Event::Gap(gap)) if gap.attempts() == 2));
        assert_eq!(listener.stats().attempts_failed, 1);
        assert_eq!(listener.last_error_at().unwrap().1.kind(), ErrorKind::Auth);
    }
}

#[tokio::test]
async fn the_error_of_a_query_without_a_session_allows_a_retry() {
    let (server, url) = listener().await;
    let serve = async {
        let mut socket = let_ask(&server).await;
        socket.write_all(Script::ACK).await.unwrap();
    };
    let (connected, ()) = tokio::join!(Listener::builder(&url).channels(["a"]).connect(), serve);
    let listener = connected.unwrap();
    soon(listener.handle().wait_state(State::Reconnecting)).await.unwrap();
    let error = soon(listener.simple_query("SELECT 1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.is_transient() && error.hint().is_some(), "{error}");
}

#[tokio::test]
async fn a_timeout_of_connect_names_the_address_that_did_not_answer() {
    // The kernel accepts the connection, and no server answers.
    let (server, url) = listener().await;
    let url = format!("{url} connect_timeout=1");
    let error = soon(Listener::connect(url.as_str())).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let address = server.local_addr().unwrap().to_string();
    assert!(format!("{error:#}").contains(&address), "{error}");
}
