//! The command queue of a listener: calls wait while it is full.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use pgbell::{Error, ErrorKind, Listener, ListenerHandle, Listening, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::{let_listen, listener, read_message, soon};

/// More calls than the queue of 1 MiB has room for: each takes at least 576 bytes.
const CALLS: usize = 3_000;

/// The answer to LISTEN.
const LISTENED: &[u8] = b"C\0\0\0\x0bLISTEN\0Z\0\0\0\x05I";

/// The answer to a query without statements.
const EMPTY: &[u8] = b"I\0\0\0\x04Z\0\0\0\x05I";

type Call = Pin<Box<dyn Future<Output = Result<Listening, Error>> + Send>>;

/// A listener whose server has received a query and does not answer it.
async fn blocked() -> (Listener, TcpStream, JoinHandle<Result<(), Error>>) {
    let (server, url) = listener().await;
    let builder = Listener::builder(&*url)
        .reconnect(false)
        .heartbeat(Duration::from_secs(3600), Duration::from_secs(60))
        .close_timeout(Duration::from_millis(300));
    let (listener, mut socket) = tokio::join!(builder.connect(), let_listen(&server));
    let listener = listener.unwrap();
    let handle = listener.handle();
    let query = tokio::spawn(async move { handle.simple_query("").await.map(drop) });
    soon(read_message(&mut socket, b'Q')).await;
    (listener, socket, query)
}

/// Calls `listen` for the channels with these numbers, and polls each call once.
fn calls(handle: &ListenerHandle, numbers: std::ops::Range<usize>) -> Vec<Call> {
    numbers
        .map(|number| {
            let handle = handle.clone();
            let mut call: Call = Box::pin(async move { handle.listen(number.to_string()).await });
            assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            call
        })
        .collect()
}

/// Answers `count` LISTENs. Returns the numbers of their channels.
async fn serve(socket: &mut TcpStream, count: usize) -> Vec<usize> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let sql = String::from_utf8(soon(read_message(socket, b'Q')).await).unwrap();
        let digits: String = sql.chars().filter(char::is_ascii_digit).collect();
        numbers.push(digits.parse().unwrap_or_else(|_| panic!("{sql:?}")));
        socket.write_all(LISTENED).await.unwrap();
    }
    numbers
}

#[tokio::test]
async fn a_dropped_call_that_waited_for_room_is_not_sent_and_the_others_keep_their_order() {
    let (listener, mut socket, query) = blocked().await;
    let handle = listener.handle();
    let mut kept = calls(&handle, 0..CALLS);
    drop(calls(&handle, CALLS..CALLS + 10));
    kept.extend(calls(&handle, CALLS + 10..CALLS + 20));
    socket.write_all(EMPTY).await.unwrap();
    soon(query).await.unwrap().unwrap();
    let server = tokio::spawn(async move {
        let served = serve(&mut socket, CALLS + 10).await;
        (served, socket)
    });
    // A call is sent when there is room, also if it is not polled again before that.
    for call in kept.into_iter().rev() {
        assert_eq!(soon(call).await.unwrap(), Listening::Active);
    }
    let (served, _socket) = soon(server).await.unwrap();
    let expected: Vec<usize> = (0..CALLS).chain(CALLS + 10..CALLS + 20).collect();
    assert_eq!(served, expected);
    assert_eq!(soon(handle.channels()).await.unwrap().len(), CALLS + 10);
}

#[tokio::test]
async fn close_ends_a_listener_with_a_full_command_queue_and_every_waiting_call() {
    let (listener, socket, query) = blocked().await;
    let handle = listener.handle();
    let waiting = calls(&handle, 0..CALLS);
    soon(handle.close()).await;
    assert_eq!(handle.state(), State::Closed);
    for call in waiting {
        assert_eq!(soon(call).await.unwrap_err().kind(), ErrorKind::Closed);
    }
    assert_eq!(soon(query).await.unwrap().unwrap_err().kind(), ErrorKind::InDoubt);
    drop(socket);
}

#[tokio::test]
async fn drain_ends_a_listener_with_a_full_command_queue_and_every_waiting_call() {
    let (listener, socket, query) = blocked().await;
    let handle = listener.handle();
    let waiting = calls(&handle, 0..CALLS);
    let mut drain = Box::pin(handle.drain(Duration::from_millis(300)));
    assert!(drain.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    // The second one returns when the first has ended the listener.
    let second = soon(handle.drain(Duration::from_secs(3600))).await.unwrap_err();
    assert_eq!(second.kind(), ErrorKind::Closed);
    assert_eq!(soon(drain).await.unwrap_err().kind(), ErrorKind::Timeout);
    for call in waiting {
        assert_eq!(soon(call).await.unwrap_err().kind(), ErrorKind::Closed);
    }
    assert_eq!(soon(query).await.unwrap().unwrap_err().kind(), ErrorKind::InDoubt);
    drop(socket);
}

#[tokio::test]
async fn a_call_that_waits_for_room_when_the_session_is_lost_is_not_in_doubt() {
    let (listener, socket, query) = blocked().await;
    let handle = listener.handle();
    let waiting = calls(&handle, 0..CALLS);
    let late = listener.handle();
    let late = tokio::spawn(async move { late.simple_query("DELETE FROM t").await });
    tokio::task::yield_now().await;
    drop(socket);
    assert_eq!(soon(query).await.unwrap().unwrap_err().kind(), ErrorKind::InDoubt);
    for call in waiting {
        assert_eq!(soon(call).await.unwrap_err().kind(), ErrorKind::Closed);
    }
    let error = soon(late).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error:#}");
}

#[tokio::test]
async fn a_command_that_is_larger_than_the_queue_is_sent_when_the_queue_is_empty() {
    let (listener, mut socket, query) = blocked().await;
    let handle = listener.handle();
    let before = calls(&handle, 0..1);
    let sql = format!("SELECT '{}'", "x".repeat(2 << 20));
    let large = listener.handle();
    let large = tokio::spawn(async move { large.simple_query(sql).await });
    tokio::task::yield_now().await;
    let after = calls(&handle, 1..2);
    socket.write_all(EMPTY).await.unwrap();
    soon(query).await.unwrap().unwrap();
    assert_eq!(serve(&mut socket, 1).await, [0]);
    assert_eq!(soon(read_message(&mut socket, b'Q')).await.len(), (2 << 20) + 10);
    // The next command waits for the answer.
    let next = tokio::time::timeout(Duration::from_millis(50), socket.read_u8()).await;
    assert!(next.is_err(), "{next:?}");
    socket.write_all(EMPTY).await.unwrap();
    soon(large).await.unwrap().unwrap();
    assert_eq!(serve(&mut socket, 1).await, [1]);
    for call in before.into_iter().chain(after) {
        soon(call).await.unwrap();
    }
}
