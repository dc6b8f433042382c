//! [`Rewinds`]: the delay before a batch that was not acknowledged is received again.

use tokio::time::{Instant, sleep_until};

use crate::proto::supervisor::Backoff;

/// Batches in a row that were not acknowledged. Each is received again after a growing delay, except the first: a batch whose handler always
/// fails would use a processor and the server without a pause.
#[derive(Debug)]
pub(super) struct Rewinds {
    in_a_row: u32,
    backoff: Backoff,
    /// When the next batch is read. Absolute, so that a call that is dropped and made again does not begin to wait anew.
    until: Option<Instant>,
}

impl Rewinds {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self { in_a_row: 0, backoff, until: None }
    }

    /// A batch was not acknowledged.
    pub(super) fn delay(&mut self) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row > 1 {
            self.until = Instant::now().checked_add(self.backoff.next());
        }
    }

    /// A batch was acknowledged.
    pub(super) fn reset(&mut self) {
        self.in_a_row = 0;
        self.until = None;
        self.backoff.reset();
    }

    /// Waits for the end of the delay. Cancel safe.
    pub(super) async fn wait(&mut self) {
        if let Some(until) = self.until {
            sleep_until(until).await;
            self.until = None;
        }
    }
}
