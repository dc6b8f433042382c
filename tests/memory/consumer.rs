//! A consumer that ends, in any way: its memory is freed and its session ends, and no other session is affected.

use std::future::Future;
use std::panic;
use std::time::Duration;

use pgbell::{ErrorKind, Listener, Overflow, State};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::alone;
use crate::peer::{Pair, notifications};

/// The memory that remains while a handle exists: its own part, and what the runtime keeps for the next task.
const HANDLE_BYTES: usize = 64 * 1024;

/// Checks that the server receives a clean end: Terminate, then the end of the stream.
async fn ends_cleanly(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut rest)).await;
    end.expect("the session continues").expect("the connection was reset");
    assert_eq!(rest, b"X\0\0\0\x04");
}

async fn full(overflow: Overflow) -> Pair {
    let mut pair = Pair::connect(|url| Listener::builder(url).overflow(overflow)).await;
    let long = notifications(8, 7_999);
    for _ in 0..32 {
        pair.write(&long, 8).await;
    }
    assert!(pair.meter.held() > 2 * 1024 * 1024, "the queue is full");
    pair
}

/// Ends the consumer of a full queue, and checks the memory that remains.
async fn check<F: Future<Output = ()>>(overflow: Overflow, end: impl FnOnce(Listener) -> F) {
    let mut other = Pair::connect(|url| Listener::builder(url)).await;
    let Pair { listener, mut meter, mut socket, .. } = full(overflow).await;
    let handle = listener.handle();
    end(listener).await;
    ends_cleanly(&mut socket).await;
    drop(socket);
    tokio::time::timeout(Duration::from_secs(20), handle.wait_state(State::Closed))
        .await
        .expect("the session is not closed")
        .unwrap();
    assert_eq!(handle.listen("b").await.unwrap_err().kind(), ErrorKind::Closed);
    // The runtime frees the memory of a socket at its next turn.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let held = meter.held();
    assert!(held <= HANDLE_BYTES, "{held} bytes are left");
    // Other sessions in the same runtime are not affected.
    other.write(&notifications(100, 10), 100).await;
    other.drain().await;
    assert_eq!((other.next, other.lost), (100, 0));
}

#[test]
fn a_consumer_with_a_batch_that_panics_frees_its_memory_and_ends_its_session() {
    for overflow in [Overflow::DropNewest, Overflow::DropOldest, Overflow::default()] {
        alone(async {
            // A backtrace would leave its tables in memory.
            let hook = panic::take_hook();
            panic::set_hook(Box::new(|_| {}));
            check(overflow, |mut listener| async move {
                let consumer = tokio::spawn(async move {
                    let batch = listener.recv_batch().await.unwrap();
                    let n = batch.iter().next().unwrap();
                    assert_eq!(n.payload(), "something else");
                });
                assert!(consumer.await.unwrap_err().is_panic());
            })
            .await;
            panic::set_hook(hook);
        });
    }
}

#[test]
fn a_listener_that_is_dropped_with_a_full_queue_frees_its_memory_even_if_a_handle_remains() {
    for overflow in [Overflow::DropNewest, Overflow::DropOldest, Overflow::default()] {
        alone(check(overflow, |listener| async move { drop(listener) }));
    }
}

#[test]
fn a_consumer_whose_task_is_aborted_frees_its_memory_and_ends_its_session() {
    alone(check(Overflow::default(), |mut listener| async move {
        let consumer = tokio::spawn(async move {
            let batch = listener.recv_batch().await.unwrap();
            std::future::pending::<()>().await;
            assert!(batch.is_empty());
        });
        tokio::task::yield_now().await;
        consumer.abort();
        assert!(consumer.await.unwrap_err().is_cancelled());
    }));
}

#[test]
fn a_listener_that_is_closed_frees_everything() {
    alone(async {
        let Pair { listener, mut meter, mut socket, .. } = full(Overflow::default()).await;
        let closing = tokio::spawn(listener.close());
        ends_cleanly(&mut socket).await;
        drop(socket);
        closing.await.unwrap();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let held = meter.held();
        assert!(held <= HANDLE_BYTES, "{held} bytes are left");
    });
}
