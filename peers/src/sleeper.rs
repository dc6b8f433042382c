//! A consumer that sleeps while notifications arrive.

use serde::{Deserialize, Serialize};

use crate::child::Child;
use crate::cores::Cores;
use crate::outcome::Outcome;
use crate::replay::WRITE_BYTES;
use crate::shape::Shape;
use crate::source::{Source, options};

/// The result of the consumer.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Slept {
    pub(crate) received: u64,
    pub(crate) delivered: u64,
    pub(crate) lagged: u64,
    /// The time until all notifications had arrived.
    pub(crate) arrival_ms: u64,
    /// The peak memory until they had arrived.
    pub(crate) peak_asleep_kib: u64,
    /// The peak memory until everything was drained.
    pub(crate) peak_rss_kib: u64,
}

impl Slept {
    /// Returns whether every notification was delivered or reported as lost, exactly once.
    pub(crate) fn is_exact(&self, sent: u64) -> bool {
        self.received == sent && self.delivered + self.lagged == sent
    }
}

/// A run of the sleeping consumer.
#[derive(Debug, Serialize)]
pub(crate) struct SleeperRun {
    pub(crate) sent: u64,
    pub(crate) slept: Option<Slept>,
    /// The reason if the run does not count.
    pub(crate) void: Option<String>,
}

impl SleeperRun {
    pub(crate) fn run(count: u64, cores: &Cores) -> Self {
        let ran = run(count, cores);
        let void = ran.as_ref().err().map(ToString::to_string);
        Self { sent: count, slept: ran.ok(), void }
    }
}

fn run(count: u64, cores: &Cores) -> Outcome<Slept> {
    let mut source = Source::replay(Shape::MAIN, WRITE_BYTES, &cores.server, None)?;
    let mut arguments = vec!["sleeper".to_owned()];
    arguments.extend(source.address()?);
    arguments.extend(["--count".to_owned(), count.to_string()]);
    arguments.extend(options(Shape::MAIN, cores.client(1)));
    let mut child = Child::start(&arguments)?.watched();
    child.wait_until_ready()?;
    source.go(count)?;
    let slept: Slept = child.value()?;
    let sent = source.sent()?;
    child.finish()?;
    if sent.count != count || !slept.is_exact(count) {
        return Err(format!(
            "{count} sent, {} received: {} delivered, {} lagged",
            slept.received, slept.delivered, slept.lagged
        )
        .into());
    }
    Ok(slept)
}
