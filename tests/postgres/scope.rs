//! Scopes: channels that a listener listens to for a part of a program.

use std::pin::pin;
use std::time::Duration;

use pgbell::{ErrorKind, Event, Listener, Listening, Notification, State};

use crate::support::{Server, TEST_TIMEOUT, next, poll_once, run, until};

/// Returns the channels of the session, as the server names them.
async fn channels(listener: &Listener) -> Vec<String> {
    let sql = "SELECT pg_listening_channels() ORDER BY 1";
    let results = listener.simple_query(sql).await.unwrap();
    results[0].iter().map(|row| row.get(0).unwrap().to_owned()).collect()
}

async fn received(event: impl Future<Output = Result<Event, pgbell::Error>>) -> Notification {
    let event = tokio::time::timeout(TEST_TIMEOUT, event).await.expect("nothing arrives");
    event.unwrap().into_notification().expect("no loss")
}

/// D2.
#[test]
fn a_scope_over_several_channels_yields_channel_payload_and_process_id() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&[]).await;
        let notifier = server.notifier().await;
        let mut scope = listener.scope(["orders", "cancellations", "orders"]).await.unwrap();
        assert_eq!(scope.channels().collect::<Vec<_>>(), ["cancellations", "orders"]);
        for (channel, payload) in [("orders", "1"), ("cancellations", "2"), ("other", "3")] {
            notifier.notify(channel, payload).await.unwrap();
        }
        for expected in [("orders", "1"), ("cancellations", "2")] {
            let n = received(scope.recv()).await;
            assert_eq!((n.channel(), n.payload()), expected);
            assert_eq!(Some(n.process_id()), notifier.process_id());
        }
        notifier.notify("orders", "4").await.unwrap();
        let batch = scope.recv_batch().await.unwrap();
        assert_eq!(batch.iter().map(|n| n.payload()).collect::<Vec<_>>(), ["4"]);
        assert!(scope.try_recv().unwrap().is_none());
        scope.leave().await.unwrap();
        listener.close().await;
    });
}

/// D2.
#[test]
fn a_scope_without_a_channel_or_with_a_wrong_name_is_an_error_and_sends_nothing() {
    let server = Server::logging();
    run(async {
        let mut listener = server.listener(&[]).await;
        let process_id = listener.process_id();
        let none: [&str; 0] = [];
        assert_eq!(listener.scope(none).await.unwrap_err().kind(), ErrorKind::Misuse);
        assert_eq!(listener.scope(["a", ""]).await.unwrap_err().kind(), ErrorKind::Misuse);
        assert!(channels(&listener).await.is_empty());
        let statements = server.statements_of(process_id);
        assert!(!statements.iter().any(|one| one.contains("LISTEN \"")), "{statements:?}");
        listener.close().await;
    });
}

/// D3.
#[test]
fn a_scope_that_is_left_by_break_error_or_cancellation_does_not_stay_on_its_channels() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["stays"]).await;
        let notifier = server.notifier().await;
        // By a break.
        let mut scope = listener.scope(["a", "stays", "b"]).await.unwrap();
        notifier.notify("a", "1").await.unwrap();
        loop {
            if received(scope.recv()).await.payload() == "1" {
                break;
            }
        }
        drop(scope);
        assert_eq!(channels(&listener).await, ["stays"]);
        // By an error.
        let failing = async |listener: &mut Listener| -> Result<(), std::num::ParseIntError> {
            let mut scope = listener.scope(["a", "b"]).await.unwrap();
            notifier.notify("b", "not a number").await.unwrap();
            let _: u64 = received(scope.recv()).await.payload().parse()?;
            Ok(())
        };
        assert!(failing(&mut listener).await.is_err());
        assert_eq!(channels(&listener).await, ["stays"]);
        // By cancellation.
        let cancelled = tokio::time::timeout(Duration::from_millis(50), async {
            let mut scope = listener.scope(["a", "b"]).await.unwrap();
            scope.recv().await
        });
        assert!(cancelled.await.is_err());
        assert_eq!(channels(&listener).await, ["stays"]);
        // What is left does not arrive, and the session is usable.
        notifier.notify("a", "late").await.unwrap();
        notifier.notify("stays", "2").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "2");
        listener.close().await;
    });
}

/// D3.
#[test]
fn leave_returns_after_the_server_has_stopped_listening_and_the_queue_keeps_what_was_before() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["stays"]).await;
        let notifier = server.notifier().await;
        let scope = listener.scope(["a", "stays"]).await.unwrap();
        notifier.notify("a", "before").await.unwrap();
        scope.leave().await.unwrap();
        notifier.notify("a", "after").await.unwrap();
        notifier.notify("stays", "end").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "before");
        assert_eq!(next(&mut listener).await.payload(), "end");
        assert_eq!(channels(&listener).await, ["stays"]);
        listener.close().await;
    });
}

/// D3. The UNLISTEN of the first scope is unanswered when the second one begins.
#[test]
fn a_scope_on_the_channels_of_one_that_was_just_dropped_leaves_them_too() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&[]).await;
        let notifier = server.notifier().await;
        for number in 0..100 {
            drop(listener.scope(["a", "b"]).await.unwrap());
            let mut scope = listener.scope(["b", "a"]).await.unwrap();
            notifier.notify("a", number.to_string()).await.unwrap();
            assert_eq!(received(scope.recv()).await.payload(), number.to_string());
            drop(scope);
        }
        assert!(channels(&listener).await.is_empty());
        assert!(listener.handle().channels().await.unwrap().is_empty());
        listener.close().await;
    });
}

/// D3.
#[test]
fn a_scope_whose_future_is_dropped_at_any_await_does_not_stay_on_its_channels() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&[]).await;
        let mut entered = 0;
        for polls in 0..400 {
            let mut scope = pin!(listener.scope(["a", "b"]));
            for _ in 0..polls % 20 {
                if poll_once(scope.as_mut()).await.is_some() {
                    entered += 1;
                    break;
                }
                if polls % 3 == 0 {
                    tokio::time::sleep(Duration::from_micros(50)).await;
                } else {
                    tokio::task::yield_now().await;
                }
            }
        }
        assert!(channels(&listener).await.is_empty());
        assert!(entered < 400, "none was dropped before");
        listener.close().await;
    });
}

/// D3.
#[test]
fn a_scope_that_is_dropped_while_the_command_queue_is_full_leaves_its_channels() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["stays"]).await;
        let handle = listener.handle();
        let scope = listener.scope(["a"]).await.unwrap();
        // It takes the whole queue, and the next call waits.
        let mut query = pin!(handle.simple_query(filling_query()));
        assert!(poll_once(query.as_mut()).await.is_none());
        let mut waits = pin!(handle.listen("waits"));
        assert!(poll_once(waits.as_mut()).await.is_none());
        drop(scope);
        query.await.unwrap();
        waits.await.unwrap();
        assert_eq!(channels(&listener).await, ["stays", "waits"]);
        listener.close().await;
    });
}

/// A query that takes the whole command queue for a while. Later calls wait for room.
fn filling_query() -> String {
    format!("SELECT pg_sleep(0.3) -- {}", "x".repeat(1024 * 1024))
}

/// D3. Its LISTEN is before the UNLISTEN of the scope.
#[test]
fn a_listen_that_is_unanswered_when_a_scope_is_dropped_is_left_with_the_scope() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["stays"]).await;
        let handle = listener.handle();
        let scope = listener.scope(["a", "b"]).await.unwrap();
        let mut query = pin!(handle.simple_query("SELECT pg_sleep(0.3)"));
        assert!(poll_once(query.as_mut()).await.is_none());
        let mut listen = pin!(handle.listen("a"));
        assert!(poll_once(listen.as_mut()).await.is_none());
        drop(scope);
        query.await.unwrap();
        assert_eq!(listen.await.unwrap(), Listening::Active);
        assert_eq!(channels(&listener).await, ["stays"]);
        // One that is made after it stays.
        handle.listen("a").await.unwrap();
        assert_eq!(channels(&listener).await, ["a", "stays"]);
        listener.close().await;
    });
}

/// D3.
#[test]
fn a_listen_that_is_unanswered_when_a_scope_is_entered_is_left_with_the_scope() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["stays"]).await;
        let handle = listener.handle();
        let mut query = pin!(handle.simple_query("SELECT pg_sleep(0.3)"));
        assert!(poll_once(query.as_mut()).await.is_none());
        let mut listen = pin!(handle.listen("a"));
        assert!(poll_once(listen.as_mut()).await.is_none());
        let scope = listener.scope(["a"]).await.unwrap();
        query.await.unwrap();
        assert_eq!(listen.await.unwrap(), Listening::Active);
        drop(scope);
        assert_eq!(channels(&listener).await, ["stays"]);
        listener.close().await;
    });
}

/// D3. The drop of the scope does not wait for room, and overtakes the call.
#[test]
fn a_listen_that_waits_for_room_when_a_scope_is_dropped_keeps_its_channel() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["stays"]).await;
        let handle = listener.handle();
        let scope = listener.scope(["a", "b"]).await.unwrap();
        let mut query = pin!(handle.simple_query(filling_query()));
        assert!(poll_once(query.as_mut()).await.is_none());
        let mut listen = pin!(handle.listen("a"));
        assert!(poll_once(listen.as_mut()).await.is_none());
        drop(scope);
        query.await.unwrap();
        assert_eq!(listen.await.unwrap(), Listening::Active);
        assert_eq!(channels(&listener).await, ["a", "stays"]);
        listener.close().await;
    });
}

/// D3. The UNLISTEN of `leave` waits for room behind the call.
#[test]
fn a_listen_that_waits_for_room_is_not_overtaken_by_leave() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["stays"]).await;
        let handle = listener.handle();
        let scope = listener.scope(["a", "b"]).await.unwrap();
        let mut query = pin!(handle.simple_query(filling_query()));
        assert!(poll_once(query.as_mut()).await.is_none());
        let mut listen = pin!(handle.listen("a"));
        assert!(poll_once(listen.as_mut()).await.is_none());
        let mut leave = Box::pin(scope.leave());
        assert!(poll_once(leave.as_mut()).await.is_none());
        query.await.unwrap();
        assert_eq!(listen.await.unwrap(), Listening::Active);
        leave.await.unwrap();
        assert_eq!(channels(&listener).await, ["stays"]);
        listener.close().await;
    });
}

/// D3.
#[test]
fn a_scope_that_is_dropped_without_a_session_is_not_listened_to_by_the_next_one() {
    let server = Server::start();
    run(async {
        let builder = Listener::builder(server.url()).channels(["stays"]);
        let delay = Duration::from_millis(200);
        let mut listener = builder.backoff(delay, delay).connect().await.unwrap();
        let handle = listener.handle();
        let scope = listener.scope(["a"]).await.unwrap();
        server.cluster.terminate_backend(handle.process_id().unwrap()).unwrap();
        until("it is lost", || handle.stats().sessions_lost == 1).await;
        drop(scope);
        let scope = listener.scope(["b"]).await.unwrap();
        handle.wait_state(State::Connected).await.unwrap();
        scope.leave().await.unwrap();
        assert_eq!(channels(&listener).await, ["stays"]);
        listener.close().await;
    });
}

#[test]
fn a_scope_of_a_listener_that_has_ended_returns_that_it_is_closed() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&[]).await;
        let handle = listener.handle();
        let mut scope = listener.scope(["a"]).await.unwrap();
        handle.close().await;
        assert_eq!(scope.recv().await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(scope.leave().await.unwrap_err().kind(), ErrorKind::Closed);
        drop(listener.scope(["a"]).await.unwrap_err());
    });
}
