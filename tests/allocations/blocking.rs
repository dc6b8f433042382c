//! The same with `pgbell::blocking`: the thread that receives takes from the queue directly.

use std::thread;
use std::time::Duration;

use pgbell::blocking::Listener;
use pgbell::{Event, Overflow};
use stats_alloc::Stats;

use crate::places::PayloadAddresses;
use crate::replay::Flow;
use crate::{APART_COUNT, BUFFERS_MAX, QUEUE_BYTES, QUEUE_CAPACITY, Steady};

pub(crate) fn batches(flow: Flow) -> Stats {
    let (mut steady, mut listener) = listening(flow);
    let mut places = PayloadAddresses::new(steady.plan.total);
    while !steady.is_over() {
        let batch = listener.recv_batch().unwrap();
        assert!(batch.loss().is_none());
        for n in batch {
            steady.take(n.payload_bytes());
            if steady.next > steady.plan.apart {
                places.add(n.payload_bytes());
            }
        }
        places.end_batch();
        steady.received();
        make_spare_buffer(&steady, &listener);
    }
    let change = steady.change();
    places.check(BUFFERS_MAX + 1);
    steady.replay.end();
    listener.close();
    change
}

pub(crate) fn owned(flow: Flow) -> Stats {
    let (mut steady, mut listener) = listening(flow);
    while !steady.is_over() {
        match listener.recv_timeout(Duration::from_secs(600)).unwrap() {
            Some(Event::Notification(n)) => steady.take(n.payload_bytes()),
            other => panic!("{other:?}"),
        }
        steady.received();
        make_spare_buffer(&steady, &listener);
    }
    let change = steady.change();
    steady.replay.end();
    listener.close();
    change
}

/// See [`crate::listening`].
fn listening(flow: Flow) -> (Steady, Listener) {
    let steady = Steady::start(flow, APART_COUNT);
    let overflow = Overflow::Block { max_stall: Duration::from_secs(600) };
    let builder = Listener::builder(steady.replay.url()).channels(["channel1"]).overflow(overflow);
    let builder = builder.queue_capacity(QUEUE_CAPACITY).queue_bytes(QUEUE_BYTES);
    let listener = builder.pin_limit_bytes(0).read_delay(Duration::ZERO).connect().unwrap();
    while listener.stats().stalls == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    (steady, listener)
}

/// See [`Steady::make_spare_buffer`].
fn make_spare_buffer(steady: &Steady, listener: &Listener) {
    let awake = steady.plan.awake_at();
    while steady.next == steady.plan.asleep_at() && listener.stats().received < awake {
        steady.replay.set_received(listener.stats().received);
        thread::sleep(Duration::from_micros(100));
    }
}
