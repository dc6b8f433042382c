//! The limit in bytes of a lane, over a listener and over a hub, and of a batch.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::super::lane_queue::lane_queue;
use super::super::source::Item;
use super::{Log, Running, notification, until};
use crate::dispatcher::Dispatcher;
use crate::hub::Hub;
use crate::listener::Listener;
use crate::notification::Notification;
use crate::testing::{BackendConfig, Server};

const LONG: Duration = Duration::from_secs(60);

/// A payload, so that two notifications fit into 8 KiB.
fn payload() -> String {
    "x".repeat(4_000)
}

/// A dispatcher with lanes of 8 KiB, whose handler waits for a permit of the gate.
fn gated(gate: &Arc<Semaphore>) -> Dispatcher {
    let gate = gate.clone();
    Dispatcher::new().lane_bytes(8 * 1024).on("a", move |_: Notification| {
        let gate = gate.clone();
        async move { gate.acquire().await.unwrap().forget() }
    })
}

#[tokio::test]
async fn a_full_lane_over_a_listener_leaves_the_rest_in_the_queue_of_the_listener() {
    let server = Server::start(BackendConfig::new()).await.unwrap();
    let listener = Listener::connect(server.url()).await.unwrap();
    let (handle, gate) = (listener.handle(), Arc::new(Semaphore::new(0)));
    let running = gated(&gate).run(listener).await.unwrap();
    for _ in 0..20 {
        server.notify("a", &payload()).unwrap();
    }
    until("all have arrived", || handle.stats().received == 20).await;
    // One runs, two wait, and one waits for room.
    until("the lane is full", || running.stats().received >= 4).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(running.stats().received, 4);
    gate.add_permits(20);
    let stopped = running.drain(LONG).await;
    assert!(stopped.error.is_none(), "{stopped:?}");
    assert_eq!((running.stats().handled, handle.stats().dropped), (20, 0));
}

#[tokio::test]
async fn a_full_lane_over_a_hub_loses_what_does_not_fit() {
    let server = Server::start(BackendConfig::new()).await.unwrap();
    let (hub, gate) = (Hub::connect(server.url()).await.unwrap(), Arc::new(Semaphore::new(0)));
    let log = Log::default();
    let lines = log.clone();
    let dispatcher = gated(&gate).on_loss(move |loss| {
        let log = lines.clone();
        async move { log.add(loss.to_string()) }
    });
    let running = dispatcher.run_hub(hub.handle()).await.unwrap();
    server.notify("a", &payload()).unwrap();
    until("it runs", || running.stats().running == 1).await;
    for _ in 0..5 {
        server.notify("a", &payload()).unwrap();
    }
    until("all have arrived", || hub.stats().connection.received == 6).await;
    gate.add_permits(20);
    let stopped = running.drain(LONG).await;
    assert!(stopped.error.is_none(), "{stopped:?}");
    assert_eq!(running.stats().handled, 3);
    assert_eq!(log.lines(), ["a: 3 notifications were dropped: the queue was full"]);
}

#[tokio::test]
async fn a_batch_ends_when_it_has_the_bytes_of_a_lane() {
    let log = Log::default();
    let lines = log.clone();
    let running = Running::start(Dispatcher::new().lane_bytes(8 * 1024).on_batch(
        "a",
        100,
        move |batch: Vec<Notification>| {
            let log = lines.clone();
            async move { log.add(batch.len().to_string()) }
        },
    ));
    for payload in [payload(), payload(), payload(), payload(), "x".repeat(9_000), payload()] {
        running.put(&payload).await;
    }
    running.end().await;
    assert_eq!(log.lines(), ["3", "2", "1"]);
}

/// A send that is dropped while it waits has taken nothing.
#[test]
fn a_queue_has_room_again_when_an_item_is_taken_or_a_send_is_dropped() {
    let mut cx = Context::from_waker(Waker::noop());
    let item = |bytes: usize| Item::Notification(notification("a", &"x".repeat(bytes - 12)));
    let (sender, mut receiver) = lane_queue(10, 100);
    let mut send = |bytes: usize| pin!(sender.send(item(bytes))).poll(&mut cx).is_ready();
    assert!(send(60) && send(40));
    assert!(!send(12));
    assert!(receiver.try_recv().is_some());
    assert!(!send(61));
    assert!(send(60));
    // One that is larger than the limit waits until the queue is empty.
    assert!(receiver.try_recv().is_some());
    assert!(!send(500));
    assert!(receiver.try_recv().is_some());
    assert!(send(500));
    assert!(!send(12));
    assert!(receiver.try_recv().is_some() && receiver.try_recv().is_none());
    assert!(send(100));
}

#[test]
fn a_send_that_waits_for_bytes_ends_with_its_lane() {
    let mut cx = Context::from_waker(Waker::noop());
    let item = || Item::Notification(notification("a", "1"));
    let (sender, receiver) = lane_queue(10, 13);
    assert!(pin!(sender.send(item())).poll(&mut cx).is_ready());
    let mut waits = pin!(sender.send(item()));
    assert!(waits.as_mut().poll(&mut cx).is_pending());
    drop(receiver);
    assert!(waits.poll(&mut cx).is_ready());
    assert!(pin!(sender.send(item())).poll(&mut cx).is_ready());
}

#[tokio::test]
async fn a_dispatcher_runs_over_a_hub_or_over_its_handle() {
    let server = Server::start(BackendConfig::new()).await.unwrap();
    let hub = Hub::connect(server.url()).await.unwrap();
    let handle = hub.handle();
    let dispatcher = || Dispatcher::new().on("a", |_: Notification| async {});
    let all = [
        dispatcher().run_hub(&hub).await.unwrap(),
        dispatcher().run_hub(&handle).await.unwrap(),
        tokio::spawn(dispatcher().run_hub(handle)).await.unwrap().unwrap(),
    ];
    assert_eq!(hub.stats().subscriptions, 3);
    server.notify("a", "1").unwrap();
    for running in all {
        until("it is handled", || running.stats().handled == 1).await;
        running.stop(LONG).await;
    }
}
