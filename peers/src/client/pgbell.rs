//! pgbell, with all of its ways to receive.

use std::time::{Duration, Instant};

use pgbell::{Connection, Event, Listener, Loss, Overflow};

use super::{Job, PING, ReadDelay, block_on};
use crate::delays::{DelayMeter, Delays};
use crate::latency::{Latency, Stopwatch};
use crate::outcome::Outcome;
use crate::sleeper::Slept;
use crate::tally::{Tally, print_ready};
use crate::usage::peak_rss_kib;

/// Longer than any measured part: nothing is ever dropped.
pub(super) const MAX_STALL: Duration = Duration::from_secs(30);

/// The time that the sleeper waits for the sender.
const SENDER_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn inline(job: &Job, delay: ReadDelay) -> Outcome<()> {
    let job = job.clone();
    block_on(1, async move {
        let mut connection = connected(&job, delay).await?;
        let mut tally = Tally::begin(job.count)?;
        while !tally.is_complete() {
            let batch = connection.recv_batch().await?;
            tally.arrived();
            if let Some(loss) = batch.loss() {
                return Err(format!("a loss: {loss:?}").into());
            }
            for n in batch {
                tally.add(n.channel_bytes(), n.payload_bytes());
            }
        }
        tally.finish()
    })
}

async fn connected(job: &Job, delay: ReadDelay) -> Outcome<Connection> {
    let mut connection = Connection::connect(&*job.conninfo()).await?;
    connection.listen_all(job.shape.all_channels()).await?;
    if delay == ReadDelay::None {
        connection.set_read_delay(Duration::ZERO);
    }
    Ok(connection)
}

async fn listening(job: &Job, delay: ReadDelay) -> Outcome<Listener> {
    let overflow = Overflow::Block { max_stall: MAX_STALL };
    let mut builder = Listener::builder(&*job.conninfo()).channels(job.shape.all_channels());
    if delay == ReadDelay::None {
        builder = builder.read_delay(Duration::ZERO);
    }
    Ok(builder.overflow(overflow).connect().await?)
}

pub(super) fn listener(job: &Job, threads: usize, delay: ReadDelay) -> Outcome<()> {
    let job = job.clone();
    block_on(threads, async move {
        let mut listener = listening(&job, delay).await?;
        let mut tally = Tally::begin(job.count)?;
        while !tally.is_complete() {
            let batch = listener.recv_batch().await?;
            tally.arrived();
            if let Some(loss) = batch.loss() {
                return Err(format!("a loss: {loss:?}").into());
            }
            for n in batch {
                tally.add(n.channel_bytes(), n.payload_bytes());
            }
        }
        tally.finish()
    })
}

pub(super) fn recv(job: &Job) -> Outcome<()> {
    let job = job.clone();
    block_on(1, async move {
        let mut listener = listening(&job, ReadDelay::Default).await?;
        let mut tally = Tally::begin(job.count)?;
        while !tally.is_complete() {
            match listener.recv().await? {
                Event::Notification(n) => {
                    tally.arrived();
                    tally.add(n.channel_bytes(), n.payload_bytes());
                }
                loss => return Err(format!("a loss: {loss:?}").into()),
            }
        }
        tally.finish()
    })
}

pub(super) fn inline_ping_pong(job: &Job) -> Outcome<Latency> {
    let job = job.clone();
    block_on(1, async move {
        let mut sender = Connection::connect(&*job.conninfo()).await?;
        let mut receiver = Connection::connect(&*job.conninfo()).await?;
        receiver.listen(PING).await?;
        let mut watch = Stopwatch::new(job.count)?;
        while let Some(ping) = watch.next() {
            sender.simple_query(&ping.sql()).await?;
            let mut arrived = false;
            while !arrived {
                for n in receiver.recv_batch().await? {
                    ping.check(n.payload_bytes())?;
                    arrived = true;
                }
            }
            watch.arrived(&ping);
        }
        let reads_delayed = Some(sender.reads_delayed() + receiver.reads_delayed());
        Ok(Latency { reads_delayed, ..watch.finish()? })
    })
}

pub(super) fn listener_ping_pong(job: &Job, threads: usize) -> Outcome<Latency> {
    let job = job.clone();
    block_on(threads, async move {
        let mut sender = Connection::connect(&*job.conninfo()).await?;
        let mut receiver = Listener::connect(&*job.conninfo()).await?;
        receiver.listen(PING).await?;
        let mut watch = Stopwatch::new(job.count)?;
        while let Some(ping) = watch.next() {
            sender.simple_query(&ping.sql()).await?;
            let mut arrived = false;
            while !arrived {
                for n in receiver.recv_batch().await? {
                    ping.check(n.payload_bytes())?;
                    arrived = true;
                }
            }
            watch.arrived(&ping);
        }
        let reads_delayed = Some(sender.reads_delayed() + receiver.stats().reads_delayed);
        Ok(Latency { reads_delayed, ..watch.finish()? })
    })
}

pub(super) fn inline_delays(job: &Job, delay: ReadDelay) -> Outcome<Delays> {
    let job = job.clone();
    block_on(1, async move {
        let mut connection = connected(&job, delay).await?;
        let mut meter = DelayMeter::begin(job.count)?;
        while !meter.is_complete() {
            let batch = connection.recv_batch().await?;
            meter.arrived(batch.iter().map(|n| n.payload_bytes()))?;
        }
        meter.finish(connection.reads_delayed())
    })
}

pub(super) fn listener_delays(job: &Job, delay: ReadDelay) -> Outcome<Delays> {
    let job = job.clone();
    block_on(1, async move {
        let mut listener = listening(&job, delay).await?;
        let mut meter = DelayMeter::begin(job.count)?;
        while !meter.is_complete() {
            let batch = listener.recv_batch().await?;
            meter.arrived(batch.iter().map(|n| n.payload_bytes()))?;
        }
        meter.finish(listener.stats().reads_delayed)
    })
}

/// A consumer with default limits that drops the newest notifications, and reads none until all have arrived.
pub(super) fn sleeper(job: &Job) -> Outcome<Slept> {
    let job = job.clone();
    block_on(1, async move {
        let builder = Listener::builder(&*job.conninfo()).channels(job.shape.all_channels());
        let mut listener = builder.overflow(Overflow::DropNewest).connect().await?;
        print_ready()?;
        let begin = Instant::now();
        while listener.stats().received < job.count {
            if begin.elapsed() > SENDER_TIMEOUT {
                let received = listener.stats().received;
                return Err(format!("{received} of {} arrived", job.count).into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let arrival = begin.elapsed();
        let peak_asleep_kib = peak_rss_kib()?;
        let (mut delivered, mut lagged) = (0, 0);
        while delivered + lagged < job.count {
            let batch = listener.recv_batch().await?;
            match batch.loss() {
                Some(Loss::Lagged(lag)) => lagged += lag.count(),
                Some(other) => return Err(format!("a loss: {other:?}").into()),
                None => {}
            }
            delivered += batch.iter().count() as u64;
        }
        let stats = listener.stats();
        Ok(Slept {
            received: stats.received,
            delivered,
            lagged,
            arrival_ms: u64::try_from(arrival.as_millis())?,
            peak_asleep_kib,
            peak_rss_kib: peak_rss_kib()?,
        })
    })
}
