//! Defects that were found once, each named for its symptom.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use pgbell::{Connection, ErrorKind, Event, Listener, Notifier, Overflow};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{let_listen, listener, server, soon};

#[tokio::test]
async fn a_queue_of_unlimited_bytes_can_be_asked_for() {
    let server = server().await;
    soon(Listener::builder(server.url()).queue_bytes(usize::MAX).connect()).await.unwrap();
}

/// The task of the listener must not spend all its time on commands.
#[tokio::test]
async fn notifications_arrive_while_many_tasks_ask_a_handle_without_pause() {
    let server = server().await;
    let mut listener = Listener::builder(server.url()).channels(["a"]).connect().await.unwrap();
    let mut sending = Connection::connect(server.url()).await.unwrap();
    let asking: Vec<_> = (0..400)
        .map(|_| {
            let handle = listener.handle();
            tokio::spawn(async move { while handle.channels().await.is_ok() {} })
        })
        .collect();
    sending.notify("a", "x").await.unwrap();
    let event = soon(listener.recv()).await.unwrap();
    assert!(matches!(event, Event::Notification(_)));
    soon(listener.close()).await;
    for task in asking {
        soon(task).await.unwrap();
    }
}

/// The answer arrives in time and waits in the socket, because the listener's task is late.
#[tokio::test]
async fn an_answer_that_waited_in_the_socket_is_no_timeout() {
    let (server, url) = listener().await;
    let (connection, mut socket) = tokio::join!(Connection::connect(&url), let_listen(&server));
    let mut connection = connection.unwrap();
    {
        let listen = pin!(connection.listen("a"));
        assert!(listen.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let mut query = vec![0; b"Q....LISTEN \"a\"\0".len()];
    socket.read_exact(&mut query).await.unwrap();
    let answer = b"C\0\0\0\x0bLISTEN\0Z\0\0\0\x05IA\0\0\0\x0c\0\0\0\x01a\0b\0";
    socket.write_all(answer).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    let batch = soon(connection.recv_batch()).await.unwrap();
    assert_eq!(batch.len(), 1);
}

/// After a suspended computer continues, the task finds at the same time that its deadline has passed and that the answer has
/// arrived.
#[tokio::test]
async fn a_listener_that_was_suspended_past_a_deadline_continues() {
    let (server, url) = listener().await;
    let (listener, mut socket) = tokio::join!(Listener::connect(&url), let_listen(&server));
    let listener = listener.unwrap();
    let handle = listener.handle();
    let listening = tokio::spawn(async move { handle.listen("a").await });
    let mut query = vec![0; b"Q....LISTEN \"a\"\0".len()];
    socket.read_exact(&mut query).await.unwrap();
    tokio::time::pause();
    socket.write_all(b"C\0\0\0\x0bLISTEN\0Z\0\0\0\x05I").await.unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    soon(listening).await.unwrap().unwrap();
}

/// The server receives the notification, and never answers.
#[tokio::test]
async fn a_notifier_with_a_silent_server_can_be_closed() {
    let (server, url) = listener().await;
    let (notifier, _socket) = tokio::join!(Notifier::connect(&url), let_listen(&server));
    let notifier = notifier.unwrap();
    let waiting = tokio::spawn({
        let notifier = notifier.clone();
        async move { notifier.notify("a", "x").await }
    });
    tokio::task::yield_now().await;
    tokio::time::pause();
    tokio::time::timeout(Duration::from_secs(120), notifier.close()).await.unwrap();
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
}

/// A queue that never becomes empty: the other futures of the same task, such as a timeout, must be polled too.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_time_limit_holds_around_a_consumer_that_never_catches_up() {
    let (server, url) = listener().await;
    let builder = Listener::builder(&url).queue_capacity(64).overflow(Overflow::DropNewest);
    let (listener, mut socket) = tokio::join!(builder.connect(), let_listen(&server));
    let mut listener = listener.unwrap();
    let flood = b"A\0\0\0\x0c\0\0\0\x01a\0b\0".repeat(1_000);
    let flooding = tokio::spawn(async move { while socket.write_all(&flood).await.is_ok() {} });
    let begin = Instant::now();
    let receiving = tokio::spawn(async move {
        let receive = async {
            // The loop ends by itself, so that the test ends.
            while begin.elapsed() < Duration::from_secs(5) {
                let _ = listener.recv().await;
                let busy = Instant::now();
                while busy.elapsed() < Duration::from_micros(100) {
                    std::hint::spin_loop();
                }
            }
        };
        tokio::time::timeout(Duration::from_millis(50), receive).await
    });
    assert!(soon(receiving).await.unwrap().is_err(), "the timeout never fired");
    soon(flooding).await.unwrap();
}
