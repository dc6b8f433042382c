//! A listener that is closed while it reconnects, at every step of the attempt.

use std::time::{Duration, Instant};

use pgbell::{Listener, ListenerBuilder, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{let_in, let_listen, listener, soon};

/// The last step of the second attempt to which the server responds.
#[derive(Debug, Clone, Copy)]
enum AttemptStep {
    /// The connection is not accepted: it waits in the kernel.
    Connecting,
    /// The client has asked for TLS.
    Tls,
    /// The startup packet has arrived.
    LoggingIn,
    /// The query for the facts of the server has arrived.
    Asking,
    /// LISTEN is in flight.
    Listening,
}

/// Serves one session that listens to `a`, and ends it.
async fn first_session(server: &TcpListener) {
    let mut socket = let_listen(server).await;
    let mut message = [0; 5 + 11];
    socket.read_exact(&mut message).await.unwrap();
    assert_eq!(&message[5..15], b"LISTEN \"a\"");
    socket.write_all(b"C\0\0\0\x0bLISTEN\0Z\0\0\0\x05I").await.unwrap();
}

/// Serves the second attempt up to this step. Returns the socket, so that it stays open.
async fn second_session(server: &TcpListener, step: AttemptStep) -> Option<TcpStream> {
    match step {
        AttemptStep::Connecting => None,
        AttemptStep::Tls | AttemptStep::LoggingIn => {
            let (mut socket, _) = server.accept().await.unwrap();
            socket.read_u32().await.unwrap();
            Some(socket)
        }
        AttemptStep::Asking => Some(let_in(server).await),
        AttemptStep::Listening => Some(let_listen(server).await),
    }
}

fn builder(url: &str) -> ListenerBuilder {
    let delay = Duration::from_millis(1);
    Listener::builder(url).channels(["a"]).backoff(delay, delay)
}

async fn no_task_is_left() {
    while tokio::runtime::Handle::current().metrics().num_alive_tasks() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn p11_close_returns_at_once_at_every_step_of_a_reconnect() {
    for step in [
        AttemptStep::Connecting,
        AttemptStep::LoggingIn,
        AttemptStep::Asking,
        AttemptStep::Listening,
    ] {
        let (server, url) = listener().await;
        let (listener, ()) = tokio::join!(builder(&url).connect(), first_session(&server));
        let listener = listener.unwrap();
        let handle = listener.handle();
        soon(handle.wait_state(State::Reconnecting)).await.unwrap();
        let held = soon(second_session(&server, step)).await;
        while handle.stats().attempts < 2 {
            tokio::task::yield_now().await;
        }
        let begin = Instant::now();
        soon(listener.close()).await;
        assert!(begin.elapsed() < Duration::from_millis(2_500), "{step:?}: {:?}", begin.elapsed());
        drop(held);
        soon(no_task_is_left()).await;
    }
}

/// A first attempt that hangs at any step ends with its future.
#[tokio::test]
async fn a_connect_that_is_dropped_at_any_step_leaves_no_task() {
    for step in [
        AttemptStep::Connecting,
        AttemptStep::Tls,
        AttemptStep::LoggingIn,
        AttemptStep::Asking,
        AttemptStep::Listening,
    ] {
        let (server, url) = listener().await;
        let url = match step {
            AttemptStep::Tls => url.replace("sslmode=disable", "sslmode=prefer"),
            _ => url,
        };
        let connecting = tokio::spawn(builder(&url).connect());
        let held = soon(second_session(&server, step)).await;
        connecting.abort();
        let _ = connecting.await;
        drop(held);
        soon(no_task_is_left()).await;
    }
}
