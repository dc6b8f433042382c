//! How a dispatcher stops, and what it reports: values that block, lanes that panic, and what was unread.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::until;
use crate::dispatcher::control::{Control, Origin};
use crate::dispatcher::phase::Phase;
use crate::dispatcher::shared::DispatcherShared;
use crate::dispatcher::{Dispatcher, Retry};
use crate::hub::Hub;
use crate::listener::Listener;
use crate::notification::{Notification, TopicOf};
use crate::proto::supervisor::State;
use crate::testing::{BackendConfig, Server};

const LONG: Duration = Duration::from_secs(60);

/// A handler that never ends.
fn never(_: Notification) -> std::future::Pending<()> {
    std::future::pending()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_is_bounded_although_the_function_that_finds_topics_blocks_its_thread() {
    let server = Server::start(BackendConfig::new()).await.unwrap();
    let listener = Listener::connect(server.url()).await.unwrap();
    let handle = listener.handle();
    let (release, gate) = mpsc::channel::<()>();
    let (gate, calls) = (Mutex::new(gate), Arc::new(AtomicUsize::new(0)));
    let counted = calls.clone();
    let dispatcher =
        Dispatcher::new().on_topic("a", "1", never).topic_of(TopicOf::function(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            // Other tasks of the thread continue in another one.
            let _ = tokio::task::block_in_place(|| gate.lock().unwrap().recv());
            None
        }));
    let running = dispatcher.run(listener).await.unwrap();
    server.notify("a", "1:x").unwrap();
    until("it blocks", || calls.load(Ordering::Relaxed) == 1).await;
    let stopped = tokio::time::timeout(LONG / 2, running.stop(Duration::ZERO)).await;
    let stopped = stopped.expect("the stop has not ended");
    assert_eq!((stopped.blocked, stopped.cancelled), (1, 0), "{stopped:?}");
    assert!(stopped.error.is_none(), "{stopped:?}");
    assert_eq!(handle.state(), State::Closed);
    drop(release);
}

#[tokio::test]
async fn a_stop_over_a_listener_counts_what_is_unread_once_for_each_lane() {
    let server = Server::start(BackendConfig::new()).await.unwrap();
    let listener = Listener::connect(server.url()).await.unwrap();
    let handle = listener.handle();
    handle.listen("no handler").await.unwrap();
    let dispatcher = Dispatcher::new().lane_capacity(1).on("a", never).on_topic("a", "1", never);
    let running = dispatcher.run(listener).await.unwrap();
    // One runs, one waits, and one waits for room.
    for _ in 0..3 {
        server.notify("a", "x").unwrap();
    }
    until("the lane is full", || running.stats().received == 3).await;
    for (channel, payload) in
        [("a", "1:x"), ("no handler", "x"), ("a", "2:x"), ("a", "1:x"), ("a", "1:x")]
    {
        server.notify(channel, payload).unwrap();
    }
    until("all have arrived", || handle.stats().received == 8).await;
    let stopped = running.stop(Duration::ZERO).await;
    assert_eq!((stopped.unhandled, stopped.cancelled), (3 + 2 + 1 + 2 + 2, 1), "{stopped:?}");
    assert_eq!((running.stats().received, running.stats().unclaimed), (3, 0));
}

#[tokio::test]
async fn a_stop_does_not_call_a_function_that_finds_topics_again_after_a_panic() {
    let server = Server::start(BackendConfig::new()).await.unwrap();
    let listener = Listener::connect(server.url()).await.unwrap();
    let (handle, calls) = (listener.handle(), Arc::new(AtomicUsize::new(0)));
    let counted = calls.clone();
    let topic_of = TopicOf::function(move |payload| {
        counted.fetch_add(1, Ordering::Relaxed);
        assert_ne!(payload, "bad", "planted");
        Some("1".into())
    });
    let dispatcher = Dispatcher::new().topic_of(topic_of).lane_capacity(1).on("a", never);
    let running = dispatcher.on_topic("a", "1", never).run(listener).await.unwrap();
    // Two lanes: one is in the runs, one waits, and one waits for room in the first lane.
    for _ in 0..3 {
        server.notify("a", "x").unwrap();
    }
    until("the lanes are full", || running.stats().received == 6).await;
    for payload in ["x", "bad", "x", "bad"] {
        server.notify("a", payload).unwrap();
    }
    until("all have arrived", || handle.stats().received == 7).await;
    let stopped = running.stop(Duration::ZERO).await;
    assert_eq!((stopped.unhandled, stopped.cancelled), (6 + 2 + 1 + 1 + 1, 2), "{stopped:?}");
    assert_eq!((running.stats().panics, calls.load(Ordering::Relaxed)), (1, 5));
}

#[tokio::test]
async fn the_end_after_the_panic_of_a_lane_is_bounded_although_another_handler_never_ends() {
    let server = Server::start(BackendConfig::new()).await.unwrap();
    let hub = Hub::connect(server.url()).await.unwrap();
    let (stopped, report) = watch::channel(None);
    let shared = DispatcherShared::new(2, Retry::default(), 2, 8 * 1024, report.clone());
    let shared = Arc::new(shared);
    let mut lanes = JoinSet::new();
    lanes.spawn(async { panic!("planted") });
    let cancelled = shared.clone();
    lanes.spawn(async move {
        cancelled.reached(Phase::Cancelled).await;
        None
    });
    let control = Control { shared, lanes, origin: Origin::Hub(hub.handle()), stopped };
    tokio::time::pause();
    let ended = tokio::time::timeout(LONG, control.run()).await;
    assert!(ended.is_ok(), "the end waits for a handler that never ends");
    let stopped = report.borrow().clone().unwrap();
    assert!(stopped.error.is_some() && stopped.blocked == 0, "{stopped:?}");
}
