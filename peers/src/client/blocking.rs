//! pgbell without async: one thread receives, and the background thread of the listener reads.

use pgbell::blocking::{Connection, Listener};
use pgbell::{Event, Overflow};

use super::pgbell::MAX_STALL;
use super::{Job, PING};
use crate::latency::{Latency, Stopwatch};
use crate::outcome::Outcome;
use crate::tally::Tally;

fn listening(job: &Job) -> Outcome<Listener> {
    let builder = Listener::builder(&*job.conninfo()).channels(job.shape.all_channels());
    Ok(builder.overflow(Overflow::Block { max_stall: MAX_STALL }).connect()?)
}

pub(super) fn run(job: &Job) -> Outcome<()> {
    let mut listener = listening(job)?;
    let mut tally = Tally::begin(job.count)?;
    while !tally.is_complete() {
        let batch = listener.recv_batch()?;
        tally.arrived();
        if let Some(loss) = batch.loss() {
            return Err(format!("a loss: {loss:?}").into());
        }
        for n in batch {
            tally.add(n.channel_bytes(), n.payload_bytes());
        }
    }
    tally.finish()
}

pub(super) fn recv(job: &Job) -> Outcome<()> {
    let mut listener = listening(job)?;
    let mut tally = Tally::begin(job.count)?;
    while !tally.is_complete() {
        match listener.recv()? {
            Event::Notification(n) => {
                tally.arrived();
                tally.add(n.channel_bytes(), n.payload_bytes());
            }
            loss => return Err(format!("a loss: {loss:?}").into()),
        }
    }
    tally.finish()
}

pub(super) fn ping_pong(job: &Job) -> Outcome<Latency> {
    let mut sender = Connection::connect(&*job.conninfo())?;
    let mut receiver = Listener::connect(&*job.conninfo())?;
    receiver.listen(PING)?;
    let mut watch = Stopwatch::new(job.count)?;
    while let Some(ping) = watch.next() {
        sender.simple_query(&ping.sql())?;
        let mut arrived = false;
        while !arrived {
            for n in receiver.recv_batch()? {
                ping.check(n.payload_bytes())?;
                arrived = true;
            }
        }
        watch.arrived(&ping);
    }
    let reads_delayed = Some(sender.reads_delayed() + receiver.stats().reads_delayed);
    Ok(Latency { reads_delayed, ..watch.finish()? })
}
