//! A consumer that panics: what it shares with other tasks continues, and what it owns ends.

use std::sync::Arc;

use pgbell::testing::Server;
use pgbell::{Connection, Event, Listener, State};
use tokio::sync::Mutex;

use crate::support::{server, soon};

async fn send(server: &Server, payloads: impl IntoIterator<Item = i32>) {
    let mut sending = Connection::connect(server.url()).await.unwrap();
    for payload in payloads {
        sending.notify("a", payload.to_string()).await.unwrap();
    }
    sending.close().await;
}

/// The batch counts as delivered; later notifications are received.
#[tokio::test]
async fn a_connection_in_a_mutex_works_after_a_consumer_with_a_batch_panics() {
    let server = server().await;
    let mut connection = Connection::connect(server.url()).await.unwrap();
    connection.listen("a").await.unwrap();
    let process_id = connection.process_id();
    let shared = Arc::new(Mutex::new(connection));
    send(&server, [0]).await;
    let theirs = shared.clone();
    let consumer = tokio::spawn(async move {
        let mut connection = theirs.lock().await;
        let batch = connection.recv_batch().await.unwrap();
        assert_eq!(batch.iter().next().unwrap().payload(), "something else");
    });
    assert!(soon(consumer).await.unwrap_err().is_panic());
    send(&server, [1, 2]).await;
    let mut connection = shared.lock().await;
    let mut next = 1;
    while next < 3 {
        let batch = soon(connection.recv_batch()).await.unwrap();
        assert!(batch.loss().is_none());
        for n in batch {
            assert_eq!((n.sequence(), n.payload_bytes()), (next, next.to_string().as_bytes()));
            next += 1;
        }
    }
    assert_eq!(connection.process_id(), process_id);
    soon(connection.listen("b")).await.unwrap();
}

#[tokio::test]
async fn a_listener_in_a_mutex_works_after_a_consumer_with_a_batch_panics() {
    let server = server().await;
    let listener = Listener::builder(server.url()).channels(["a"]).connect().await.unwrap();
    let handle = listener.handle();
    let shared = Arc::new(Mutex::new(listener));
    send(&server, 0..4).await;
    let theirs = shared.clone();
    let consumer = tokio::spawn(async move {
        let mut listener = theirs.lock().await;
        let batch = listener.recv_batch_max(1).await.unwrap();
        assert_eq!(batch.iter().next().unwrap().payload(), "something else");
    });
    assert!(soon(consumer).await.unwrap_err().is_panic());
    assert_eq!(handle.state(), State::Connected);
    soon(handle.listen("b")).await.unwrap();
    let mut listener = shared.lock().await;
    for expected in 1..4_u64 {
        match soon(listener.recv()).await.unwrap() {
            Event::Notification(n) => assert_eq!(n.sequence(), expected),
            loss => panic!("{loss:?}"),
        }
    }
    assert_eq!(listener.stats().sessions, 1);
}

/// The listener has no consumer any more: its session ends, and the other session continues.
#[tokio::test]
async fn a_listener_that_a_panicking_consumer_owned_ends_its_own_session_alone() {
    let server = server().await;
    let owned = Listener::builder(server.url()).channels(["a"]).connect().await.unwrap();
    let mut other = Listener::builder(server.url()).channels(["a"]).connect().await.unwrap();
    let handle = owned.handle();
    send(&server, [0]).await;
    let consumer = tokio::spawn(async move {
        let mut listener = owned;
        let event = listener.recv().await.unwrap();
        assert!(!matches!(event, Event::Notification(_)));
    });
    assert!(soon(consumer).await.unwrap_err().is_panic());
    soon(handle.wait_state(State::Closed)).await.unwrap();
    soon(async {
        while server.clients() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    send(&server, [1]).await;
    for expected in 0..2_u64 {
        match soon(other.recv()).await.unwrap() {
            Event::Notification(n) => assert_eq!(n.sequence(), expected),
            loss => panic!("{loss:?}"),
        }
    }
    assert_eq!(other.state(), State::Connected);
}
