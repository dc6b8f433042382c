//! Every future of the public interface, dropped after every number of polls: nothing hangs, nothing is delivered twice or
//! lost, wanted channels stay wanted, and the next call works.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_core::Stream;
use pgbell::testing::Server;
use pgbell::{ChannelState, Connection, Event, Listener, Notifier, State};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{let_listen, listener, read_message, server, soon};

/// The highest number of polls of one future, a millisecond apart. Most futures are ready by then.
const POLLS: usize = 12;

/// Polls `future` at most this many times, woken or not. Returns whether it was ready by then.
async fn poll_some<T>(future: impl Future<Output = T>, polls: usize) -> bool {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        let once = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready()));
        if once.await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    false
}

type Call =
    for<'a> fn(&'a mut Listener, &'a Server) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

fn calls() -> [(&'static str, Call); 14] {
    fn boxed<'a>(
        future: impl Future<Output = ()> + Send + 'a,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(future)
    }
    [
        ("recv", |listener, _| boxed(async { drop(listener.recv().await) })),
        ("recv_batch", |listener, _| {
            boxed(async { drop(listener.recv_batch().await.map(|_| ())) })
        }),
        ("recv_batch_max", |listener, _| {
            boxed(async { drop(listener.recv_batch_max(1).await.map(|_| ())) })
        }),
        ("recv of the stream", |listener, _| {
            boxed(async {
                drop(poll_fn(|cx| Pin::new(&mut *listener).poll_next(cx)).await);
            })
        }),
        ("listen", |listener, _| boxed(async { drop(listener.listen("b").await) })),
        ("listen_all", |listener, _| boxed(async { drop(listener.listen_all(["b", "c"]).await) })),
        ("unlisten", |listener, _| boxed(async { drop(listener.unlisten("b").await) })),
        ("unlisten_all", |listener, _| {
            boxed(async {
                drop(listener.unlisten_all().await);
                drop(listener.listen("a").await);
            })
        }),
        ("simple_query", |listener, _| {
            boxed(async { drop(listener.simple_query("SELECT 1").await) })
        }),
        ("notification_queue_usage", |listener, _| {
            boxed(async { drop(listener.handle().notification_queue_usage().await) })
        }),
        ("channels", |listener, _| boxed(async { drop(listener.handle().channels().await) })),
        ("rotate", |listener, _| boxed(async { drop(listener.handle().rotate().await) })),
        ("wait_state", |listener, _| {
            boxed(async { drop(listener.handle().wait_state(State::Reconnecting).await) })
        }),
        ("connect", |_, server| boxed(async { drop(Listener::connect(server.url()).await) })),
    ]
}

#[tokio::test]
async fn every_future_of_a_listener_may_be_dropped_at_every_poll() {
    let server = server().await;
    let notifier = Notifier::connect(server.url()).await.unwrap();
    for (name, call) in calls() {
        let mut sent = 0_u64;
        let mut received = 0;
        let builder = Listener::builder(server.url()).channels(["a"]);
        let mut listener = builder.connect().await.unwrap();
        for polls in 1..POLLS {
            sent += 1;
            soon(notifier.notify("a", &sent.to_string())).await.unwrap();
            let done = soon(poll_some(call(&mut listener, &server), polls)).await;
            // The next call works. A batch or an event that a future has returned counts as delivered.
            soon(listener.listen("a")).await.unwrap();
            sent += 1;
            soon(notifier.notify("a", &sent.to_string())).await.unwrap();
            while received < sent {
                match soon(listener.recv()).await.unwrap() {
                    Event::Notification(notification) if notification.channel() == "a" => {
                        let number = notification.payload().parse().unwrap();
                        assert!(
                            number > received,
                            "{name}, {polls} polls: {number} after {received}"
                        );
                        let may_be_delivered = name.starts_with("recv") && done;
                        assert!(
                            number == received + 1 || may_be_delivered || name == "unlisten_all",
                            "{name}, {polls} polls: {number} after {received}"
                        );
                        received = number;
                    }
                    other => panic!("{name}, {polls} polls: {other:?}"),
                }
            }
        }
        soon(listener.close()).await;
    }
}

/// A listener must end even if the future that waits for its end is dropped.
#[tokio::test]
async fn a_listener_ends_even_if_the_future_that_waits_for_its_end_is_dropped() {
    let server = server().await;
    for name in ["close", "handle.close", "drain"] {
        for polls in 1..POLLS {
            let listener = Listener::builder(server.url()).channels(["a"]).connect().await.unwrap();
            let handle = listener.handle();
            let done = match name {
                "close" => soon(poll_some(listener.close(), polls)).await,
                "handle.close" => soon(poll_some(handle.close(), polls)).await,
                _ => soon(poll_some(handle.drain(Duration::from_secs(5)), polls)).await,
            };
            let ended = soon(handle.wait_state(State::Closed)).await;
            assert!(ended.is_ok(), "{name}, {polls} polls");
            if done {
                break;
            }
        }
    }
    let gone = async {
        while server.clients() > 0 {
            tokio::task::yield_now().await;
        }
    };
    soon(gone).await;
}

/// The same outside a runtime, and while a runtime ends.
#[test]
fn d3_d5_a_listener_may_be_dropped_anywhere() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.unwrap();
    let server = runtime.block_on(server());
    let connect = || runtime.block_on(Listener::connect(server.url())).unwrap();
    let (outside, at_the_end, mut after) = (connect(), connect(), connect());
    let handle = outside.handle();
    drop(outside);
    runtime.block_on(soon(handle.wait_state(State::Closed))).unwrap();
    let in_a_thread = connect();
    std::thread::spawn(move || {
        let _listener = in_a_thread;
        panic!("a panic with a listener");
    })
    .join()
    .unwrap_err();
    let guard = runtime.spawn(async move {
        let _listener = at_the_end;
        std::future::pending::<()>().await;
    });
    drop(server);
    drop(runtime);
    drop(guard);
    // The task of the listener has ended: the call returns an error and does not wait. Before it comes a gap, if the task has
    // noticed the end of the server.
    let gap = after.try_recv();
    if let Ok(event) = &gap {
        assert!(event.as_ref().is_some_and(|event| event.loss().is_some()), "{event:?}");
        assert!(after.try_recv().is_err());
    }
    assert_eq!(after.state(), State::Closed);
    drop(after);
}

/// The same for a `Connection`: the answer to a dropped command is skipped.
#[tokio::test]
async fn every_future_of_a_connection_may_be_dropped_at_every_poll() {
    let server = server().await;
    for name in [
        "listen",
        "listen_all",
        "unlisten",
        "unlisten_all",
        "notify",
        "simple_query",
        "query",
        "query_typed",
        "recv_batch",
    ] {
        let mut connection = Connection::connect(server.url()).await.unwrap();
        connection.listen("a").await.unwrap();
        for polls in 1..POLLS {
            let done = match name {
                "listen" => poll_some(connection.listen("b"), polls).await,
                "listen_all" => poll_some(connection.listen_all(["b", "c"]), polls).await,
                "unlisten_all" => poll_some(connection.unlisten_all(), polls).await,
                "query_typed" => {
                    let query = connection.query_typed("SELECT $1", &[(25, "1")]);
                    poll_some(query, polls).await
                }
                "unlisten" => poll_some(connection.unlisten("b"), polls).await,
                "notify" => poll_some(connection.notify("b", "x"), polls).await,
                "simple_query" => poll_some(connection.simple_query("SELECT 1"), polls).await,
                "query" => poll_some(connection.query("SELECT $1", &[Some("1")]), polls).await,
                _ => poll_some(connection.recv_batch(), polls).await,
            };
            let rows = soon(connection.simple_query("SELECT 'next'")).await.unwrap();
            assert_eq!(rows[0].get(0).unwrap().get(0), Some("next"), "{name}, {polls} polls");
            if done {
                break;
            }
        }
        soon(connection.close()).await;
    }
}

/// A connection is closed soon when the future that opens or closes it is dropped.
#[tokio::test]
async fn a_connection_that_is_dropped_while_it_is_made_or_closed_leaves_no_session() {
    let server = server().await;
    for name in ["Connection::connect", "Connection::close", "Notifier::connect", "Notifier::close"]
    {
        for polls in 1..POLLS {
            let done = match name {
                "Connection::connect" => poll_some(Connection::connect(server.url()), polls).await,
                "Notifier::connect" => poll_some(Notifier::connect(server.url()), polls).await,
                "Connection::close" => {
                    let connection = Connection::connect(server.url()).await.unwrap();
                    poll_some(connection.close(), polls).await
                }
                _ => {
                    let notifier = Notifier::connect(server.url()).await.unwrap();
                    poll_some(notifier.close(), polls).await
                }
            };
            let gone = async {
                while server.clients() > 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), gone)
                .await
                .unwrap_or_else(|_| panic!("{name}, {polls} polls: a session is left"));
            if done {
                break;
            }
        }
    }
}

/// A notification is sent once, even if the future that waits for its answer is dropped.
#[tokio::test]
async fn every_future_of_a_notifier_may_be_dropped_at_every_poll() {
    let server = server().await;
    let mut listener = Listener::builder(server.url()).channels(["a"]).connect().await.unwrap();
    for name in ["notify", "notify_many"] {
        let notifier = Notifier::connect(server.url()).await.unwrap();
        for polls in 1..POLLS {
            let done = if name == "notify" {
                poll_some(notifier.notify("a", "1"), polls).await
            } else {
                poll_some(notifier.notify_many([("a", "1"), ("a", "2")]), polls).await
            };
            soon(notifier.notify("a", "end")).await.unwrap();
            let mut payloads = Vec::new();
            while payloads.last().is_none_or(|last| last != "end") {
                match soon(listener.recv()).await.unwrap() {
                    Event::Notification(n) => payloads.push(n.payload().to_owned()),
                    other => panic!("{name}, {polls} polls: {other:?}"),
                }
            }
            let all = if name == "notify" { &["1", "end"][..] } else { &["1", "2", "end"] };
            let is_none = payloads == ["end"] && !done;
            assert!(payloads == all || is_none, "{name}, {polls} polls: {payloads:?}");
            if done {
                break;
            }
        }
        soon(notifier.close()).await;
    }
}

/// Reads the text of a Query.
async fn read_query(socket: &mut TcpStream) -> String {
    let mut text = read_message(socket, b'Q').await;
    text.pop();
    String::from_utf8(text).unwrap()
}

/// Answers a Query of this many LISTEN statements.
async fn accept_listen(socket: &mut TcpStream, channels: usize) {
    let answer = [&b"C\0\0\0\x0bLISTEN\0".repeat(channels)[..], b"Z\0\0\0\x05I"].concat();
    socket.write_all(&answer).await.unwrap();
}

/// The same while there is no session: a channel stays wanted if the future that waits for it is dropped.
#[tokio::test]
async fn every_future_may_be_dropped_while_the_listener_reconnects() {
    let kept = r#"LISTEN "a";LISTEN "z""#;
    for (name, expected) in [
        ("listen", r#"LISTEN "a";LISTEN "b";LISTEN "z""#),
        ("listen_all", r#"LISTEN "a";LISTEN "b";LISTEN "c";LISTEN "z""#),
        ("unlisten", r#"LISTEN "z""#),
        ("unlisten_all", r#"LISTEN "z""#),
        ("simple_query", kept),
        ("notification_queue_usage", kept),
        ("channels", kept),
        ("rotate", kept),
        ("wait_state", kept),
        ("recv", kept),
        ("recv_batch", kept),
    ] {
        for polls in 1..5 {
            let (server, url) = listener().await;
            let delay = Duration::from_millis(1);
            let connect = Listener::builder(&url).channels(["a"]).backoff(delay, delay).connect();
            let first = async {
                let mut socket = let_listen(&server).await;
                read_query(&mut socket).await;
                accept_listen(&mut socket, 1).await;
            };
            let (listener, ()) = soon(async { tokio::join!(connect, first) }).await;
            let mut listener = listener.unwrap();
            let handle = listener.handle();
            soon(handle.wait_state(State::Reconnecting)).await.unwrap();
            match name {
                "listen" => poll_some(handle.listen("b"), polls).await,
                "listen_all" => poll_some(handle.listen_all(["b", "c"]), polls).await,
                "unlisten" => poll_some(handle.unlisten("a"), polls).await,
                "unlisten_all" => poll_some(handle.unlisten_all(), polls).await,
                "simple_query" => poll_some(handle.simple_query("SELECT 1"), polls).await,
                "notification_queue_usage" => {
                    poll_some(handle.notification_queue_usage(), polls).await
                }
                "channels" => poll_some(handle.channels(), polls).await,
                "rotate" => poll_some(handle.rotate(), polls).await,
                "wait_state" => poll_some(handle.wait_state(State::Connected), polls).await,
                "recv" => poll_some(listener.recv(), polls).await,
                _ => poll_some(listener.recv_batch(), polls).await,
            };
            assert_eq!(listener.state(), State::Reconnecting);
            soon(handle.listen("z")).await.unwrap();
            let second = async {
                let mut socket = let_listen(&server).await;
                let wanted = read_query(&mut socket).await;
                assert_eq!(wanted, expected, "{name}, {polls} polls");
                accept_listen(&mut socket, wanted.matches("LISTEN").count()).await;
                socket
            };
            let _socket = soon(second).await;
            let event = soon(listener.recv()).await;
            assert!(matches!(event, Ok(Event::Gap(_))), "{name}, {polls} polls: {event:?}");
            let channels = soon(handle.channels()).await.unwrap();
            assert!(channels.iter().all(|(_, state)| matches!(state, ChannelState::Active)));
        }
    }
}
