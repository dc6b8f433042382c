//! The listening side of the demo.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use pgbell::{Batch, Listener, Loss, NotificationRef};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use super::tally::Tally;
use super::writer::Sent;
use super::{Plan, say};
use crate::exit::{Exit, Failure};
use crate::numbers::{grouped, per_second, rate};
use crate::record::{Item, TEXT_DECIMALS, timestamp};

/// The longest time until the next notification. After it the rest counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The significant digits of a latency.
const LATENCY_DIGITS: u8 = 3;

/// The number of progress lines.
const STEPS: u64 = 5;

pub(crate) struct Receiver {
    listener: Listener,
    plan: Plan,
    tally: Tally,
    /// Nanoseconds from before the send to after the receipt, of the notifications that were sent one by one.
    latency: Histogram<u64>,
    lagged: u64,
    gaps: u64,
    last: Instant,
    /// The number that arrived, for the writer.
    arrived: watch::Sender<u64>,
    /// Whether to show what arrives.
    shown: bool,
}

/// What arrived.
pub(crate) struct Received {
    pub(crate) tally: Tally,
    pub(crate) latency: Histogram<u64>,
    pub(crate) lagged: u64,
    pub(crate) gaps: u64,
    /// When the last notification arrived.
    pub(crate) last: Instant,
}

impl Receiver {
    pub(crate) fn new(listener: Listener, plan: Plan, shown: bool) -> Result<Self, Failure> {
        let latency = Histogram::new(LATENCY_DIGITS)
            .map_err(|error| Failure::new(Exit::Runtime, error.to_string()))?;
        Ok(Self {
            listener,
            tally: Tally::new(plan.count),
            plan,
            latency,
            lagged: 0,
            gaps: 0,
            last: Instant::now(),
            arrived: watch::Sender::new(0),
            shown,
        })
    }

    /// Returns a watch of the number that have arrived.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.arrived.subscribe()
    }

    /// Receives until the writer's end notification has arrived, or no more notifications arrive. Returns what was sent.
    pub(crate) async fn run(
        &mut self,
        writing: &mut JoinSet<Result<Sent, Failure>>,
    ) -> Result<Sent, Failure> {
        let mut sent = None;
        loop {
            tokio::select! {
                batch = tokio::time::timeout(SILENCE_MAX, self.listener.recv_batch()) => {
                    // After this time the rest counts as lost.
                    let Ok(batch) = batch else { break };
                    let batch = batch.map_err(|error| Failure::running(&error))?;
                    let seen = Seen {
                        at: Instant::now(),
                        stamp: self.plan.stamp(),
                        plan: &self.plan,
                        shown: self.shown,
                    };
                    let before = self.tally.received();
                    match batch.loss() {
                        Some(Loss::Lagged(lagged)) => self.lagged += lagged.count(),
                        Some(_) => self.gaps += 1,
                        None => {}
                    }
                    let ended = seen.take(&batch, &mut self.tally, &mut self.latency);
                    if self.tally.received() > before {
                        self.last = seen.at;
                        self.arrived.send_replace(self.tally.received());
                        self.show_progress(before);
                    }
                    if ended {
                        break;
                    }
                }
                // A failure of the writer ends the demo at once.
                Some(ended) = writing.join_next() => sent = Some(written(ended)?),
            }
        }
        match (sent, writing.join_next().await) {
            (Some(sent), _) => Ok(sent),
            (None, Some(ended)) => written(ended),
            (None, None) => Err(Failure::new(Exit::Runtime, "the writer has no result")),
        }
    }

    fn show_progress(&self, before: u64) {
        let (received, count) = (self.tally.received(), self.plan.count);
        let step = (count / STEPS).max(1);
        if self.shown && received / step > before / step {
            let (received, rate) =
                (grouped(received), rate(per_second(received, self.plan.origin.elapsed())));
            let p50 = self.latency.value_at_quantile(0.5) / 1_000;
            say(&format!("arrived    {received:>9} of {}, {rate}, p50 {p50} µs", grouped(count)));
        }
    }

    pub(crate) async fn close(self) -> Received {
        self.listener.close().await;
        Received {
            tally: self.tally,
            latency: self.latency,
            lagged: self.lagged,
            gaps: self.gaps,
            last: self.last,
        }
    }
}

/// The context in which a batch is counted: the time of its receipt.
struct Seen<'a> {
    at: Instant,
    /// The same time in nanoseconds since the plan's origin, as in the payloads.
    stamp: u64,
    plan: &'a Plan,
    shown: bool,
}

impl Seen<'_> {
    /// Counts a batch. Returns whether the writer's end notification was in it.
    fn take(&self, batch: &Batch<'_>, tally: &mut Tally, latency: &mut Histogram<u64>) -> bool {
        if self.shown && tally.received() == 0 {
            for notification in batch.iter().take(1) {
                let received_at = timestamp(notification.received_at(), TEXT_DECIMALS);
                let mut text = Vec::new();
                Item::new(&notification).push_text(&received_at, &mut text);
                say(&format!("first      {}", String::from_utf8_lossy(&text).trim_end()));
                say(
                    "           the time of its receipt, the channel, the process id of the sender, and the payload: \
                     here a number and a time in ns",
                );
            }
        }
        let mut ended = false;
        for notification in batch {
            if notification.channel() == self.plan.end {
                ended = true;
                continue;
            }
            let parsed = parse(&notification);
            tally.take(parsed.map(|(sequence, _)| sequence));
            if let Some((_, stamp)) = parsed.filter(|(sequence, _)| *sequence <= self.plan.singles)
            {
                // The histogram resizes itself, so every value fits.
                let _ = latency.record(self.stamp.saturating_sub(stamp));
            }
        }
        ended
    }
}

/// Parses a payload of the form `sequence stamp`.
fn parse(notification: &NotificationRef<'_>) -> Option<(u64, u64)> {
    let (sequence, stamp) = notification.payload().split_once(' ')?;
    Some((sequence.parse().ok()?, stamp.parse().ok()?))
}

fn written(ended: Result<Result<Sent, Failure>, JoinError>) -> Result<Sent, Failure> {
    ended.unwrap_or_else(|error| Err(Failure::new(Exit::Runtime, error.to_string())))
}
