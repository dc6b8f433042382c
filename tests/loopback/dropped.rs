//! Every future of the public interface, dropped after every number of polls: nothing hangs, nothing is delivered twice or
//! lost, wishes stay wishes, and what comes next works.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use pgbell::testing::Server;
use pgbell::{Connection, Event, Listener, Notifier};

use crate::support::{server, soon};

/// Most polls of one future, a millisecond between them: most are done by then.
const POLLS: usize = 12;

/// Polls `future` at most so many times, whether it asked for it or not. Whether it was done by then.
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

fn calls() -> [(&'static str, Call); 12] {
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
        ("channels", |listener, _| boxed(async { drop(listener.handle().channels().await) })),
        ("rotate", |listener, _| boxed(async { drop(listener.handle().rotate().await) })),
        ("wait_state", |listener, _| {
            boxed(async { drop(listener.handle().wait_state(pgbell::State::Reconnecting).await) })
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
            // The next call works. What a batch or an event has brought counts as delivered.
            soon(listener.listen("a")).await.unwrap();
            sent += 1;
            soon(notifier.notify("a", &sent.to_string())).await.unwrap();
            while received < sent {
                match soon(listener.recv()).await.unwrap() {
                    Event::Notification(notification) if notification.channel() == "a" => {
                        let number = notification.payload_str().unwrap().parse().unwrap();
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
        soon(listener.close()).await.unwrap();
    }
}

/// The end of a listener: however the one who asked for it goes away, it comes.
#[tokio::test]
async fn an_end_that_was_asked_for_comes_also_when_nobody_waits_for_it() {
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
            let ended = soon(handle.wait_state(pgbell::State::Closed)).await;
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

/// Outside of a runtime, and while one ends, it is the end too.
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
    runtime.block_on(soon(handle.wait_state(pgbell::State::Closed))).unwrap();
    let in_a_thread = connect();
    std::thread::spawn(move || {
        let _listener = in_a_thread;
        panic!("with a listener in hand");
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
    // Nobody is left who could read: that is told, not waited for.
    assert!(after.try_recv().is_err());
    assert_eq!(after.state(), pgbell::State::Closed);
    drop(after);
}

/// An inline connection too: a reply that nobody waits for is passed over.
#[tokio::test]
async fn every_future_of_a_connection_may_be_dropped_at_every_poll() {
    let server = server().await;
    for name in ["listen", "unlisten", "notify", "simple_query", "query", "recv_batch"] {
        let mut connection = Connection::connect(server.url()).await.unwrap();
        connection.listen("a").await.unwrap();
        for polls in 1..POLLS {
            let done = match name {
                "listen" => poll_some(connection.listen("b"), polls).await,
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
        soon(connection.close()).await.unwrap();
    }
}
