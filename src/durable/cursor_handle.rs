//! [`CursorHandle`]: what can be seen of a cursor while a call of it waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::stats::CursorStats;
use crate::error::Error;

/// Shows the counters and the last error of a [`Cursor`](crate::durable::Cursor), also while one of its calls waits. Its clones show the same.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), pgbell::Error> {
/// let log = pgbell::durable::MemoryOutbox::new();
/// let mut cursor = log.cursor("billing").open().await?;
/// let handle = cursor.handle();
/// log.add("order 1", "paid");
/// cursor.next().await?.ack().await?;
/// assert_eq!(handle.stats().acknowledged, 1);
/// assert!(!handle.is_retrying() && handle.last_error().is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct CursorHandle {
    shown: Arc<Mutex<Shown>>,
}

#[derive(Debug, Default)]
struct Shown {
    stats: CursorStats,
    last_error: Option<Error>,
    is_retrying: bool,
}

impl CursorHandle {
    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> CursorStats {
        self.lock().stats
    }

    /// Returns the last error of a call of the server, also if the call was made again and succeeded then.
    #[must_use]
    pub fn last_error(&self) -> Option<Error> {
        self.lock().last_error.clone()
    }

    /// Returns true while the last call of the server has failed and is made again.
    #[must_use]
    pub fn is_retrying(&self) -> bool {
        self.lock().is_retrying
    }

    pub(super) fn count(&self, add: impl FnOnce(&mut CursorStats)) {
        add(&mut self.lock().stats);
    }

    pub(super) fn failed(&self, error: &Error) {
        self.lock().last_error = Some(error.clone().brief());
    }

    pub(super) fn retrying(&self, is_retrying: bool) {
        self.lock().is_retrying = is_retrying;
    }
}
