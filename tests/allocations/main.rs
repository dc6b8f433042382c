//! Nothing is allocated per notification or per read, in any thread, once buffers have been made; and a
//! payload lies where the socket was read to.
//!
//! One test: the counters belong to the whole process.

mod replay;

use std::alloc::System;
use std::collections::BTreeSet;

use pgbell::{Connection, Listener, Overflow};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::runtime::{Builder, Runtime};

use self::replay::{Flow, Replay};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn receiving_allocates_nothing_and_copies_nothing() {
    for flow in [Flow::Dense, Flow::Sparse] {
        for workers in [0, 2] {
            let runtime = runtime(workers);
            let inline = runtime.block_on(inline(flow));
            let queued = runtime.block_on(queued(flow));
            assert_eq!((inline, queued), (0, 0), "{flow:?}, {workers} workers");
        }
    }
}

/// None: everything on one thread.
fn runtime(workers: usize) -> Runtime {
    let mut builder = match workers {
        0 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.worker_threads(workers.max(1)).enable_all().build().unwrap()
}

/// Receives through a connection. Returns allocations after the warm-up.
async fn inline(flow: Flow) -> usize {
    let replay = Replay::start(flow);
    let mut connection = Connection::connect(replay.url()).await.unwrap();
    connection.listen("channel1").await.unwrap();
    let mut measured = None;
    let mut pages = BTreeSet::new();
    while replay.received() < flow.total() {
        let batch = connection.recv_batch().await.unwrap();
        assert!(batch.loss().is_none());
        let next = batch.iter().fold(replay.received(), |next, n| {
            assert_eq!(replay::number(n.payload()), next);
            next + 1
        });
        if next < flow.warm_up() {
            pages.extend(batch.iter().map(|n| page(n.payload())));
        } else {
            let region = measured.get_or_insert_with(|| Region::new(ALLOCATOR));
            let _ = region;
        }
        replay.set_received(next);
    }
    let allocations = measured.expect("the warm-up ends").change().allocations;
    // One receive buffer of 256 KiB, whatever came through it.
    assert!(pages.len() <= 65, "payloads lay in {} pages", pages.len());
    allocations
}

/// The same through the queue of a listener.
async fn queued(flow: Flow) -> usize {
    let replay = Replay::start(flow);
    let overflow = Overflow::Block { max_stall: std::time::Duration::from_secs(60) };
    let builder = Listener::builder(replay.url()).channels(["channel1"]).overflow(overflow);
    let mut listener = builder.connect().await.unwrap();
    let mut measured = None;
    while replay.received() < flow.total() {
        let batch = listener.recv_batch().await.unwrap();
        assert!(batch.loss().is_none());
        let next = batch.iter().fold(replay.received(), |next, n| {
            assert_eq!(replay::number(n.payload()), next);
            next + 1
        });
        if next >= flow.warm_up() {
            measured.get_or_insert_with(|| Region::new(ALLOCATOR));
        }
        replay.set_received(next);
    }
    measured.expect("the warm-up ends").change().allocations
}

/// The 4 KiB page in which a payload begins.
fn page(payload: &[u8]) -> usize {
    payload.as_ptr().addr() >> 12
}
