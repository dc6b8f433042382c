//! The time from a nudge to its consumer.

use std::time::Duration;

use pgbell::Notifier;

use super::arrivals::{Arrivals, CHANNEL};
use super::durable_server::DurableServer;
use super::{PublishingJob, Role, median, start};
use crate::many::Size;
use crate::outcome::Outcome;
use crate::tally::print_line;

/// The pause between two nudges: longer than their window, so that each goes out at once.
const PAUSE: Duration = Duration::from_millis(20);

/// Nudges the consumer of the jobs.
#[derive(Debug, Clone)]
pub(super) struct Nudger(Notifier);

impl Nudger {
    pub(super) async fn connect(job: &PublishingJob) -> Outcome<Self> {
        Ok(Self(Notifier::connect(&*job.conninfo("notifier")).await?))
    }

    /// The same, and opens the session of the nudges by a first one, for which `arrivals` waits.
    pub(super) async fn connect_and_nudge(
        job: &PublishingJob,
        arrivals: &Arrivals,
    ) -> Outcome<Self> {
        let nudger = Self::connect(job).await?;
        arrivals.expect("first");
        nudger.nudge("first");
        arrivals.all().await?;
        Ok(nudger)
    }

    pub(super) fn nudge(&self, key: &str) {
        self.0.nudge(CHANNEL, key);
    }

    pub(super) fn notifier(&self) -> &Notifier {
        &self.0
    }
}

/// Returns the median time without a load, in milliseconds.
pub(super) fn idle_ms(server: &DurableServer, size: Size) -> Outcome<f64> {
    let mut child = start(Role::Nudges, server.port(), size.amount(100, 10), 0)?;
    let median: f64 = child.value()?;
    child.finish()?;
    Ok(median)
}

pub(super) async fn idle(job: &PublishingJob) -> Outcome<()> {
    let arrivals = Arrivals::listen(&job.conninfo("consumer")).await?;
    let nudger = Nudger::connect_and_nudge(job, &arrivals).await?;
    let mut delays = Vec::new();
    for number in 0..job.job.count {
        tokio::time::sleep(PAUSE).await;
        let key = number.to_string();
        arrivals.expect(&key);
        nudger.nudge(&key);
        delays.extend(arrivals.all().await?);
    }
    print_line(&median(delays)?)
}
