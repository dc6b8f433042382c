//! What a listener tells the program around it, besides its events: log lines, spans and figures.
//!
//! Without the features `tracing` and `metrics` it tells nothing, and costs nothing. What receives it is the user's:
//! a subscriber or recorder that panics must not end the listener. It is not called again, and
//! [`last_error`](crate::ListenerHandle::last_error) says why.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::facades::Facades;
use super::outside::Opening;
use super::shared::Stats;
use crate::supervisor::{LogEvent, Policy};
use crate::{Config, Error};

/// What panics, in words.
const WHAT: &str = "a subscriber of tracing or a recorder of metrics";

pub(super) struct Telemetry {
    /// `None` once it has panicked.
    facades: Option<Facades>,
    failure: Option<Error>,
}

impl Telemetry {
    /// Opens the span of a listener. No secret of `config` is recorded. A panic in the subscriber or the recorder is
    /// passed on to the caller.
    pub(super) fn new(config: &Config, policy: &Policy) -> Self {
        Self { facades: Some(Facades::new(config, policy)), failure: None }
    }

    /// An attempt to connect, in a span of its own.
    pub(super) fn opening(&mut self, attempt: u64, opening: Opening) -> Opening {
        #[cfg(feature = "tracing")]
        if let Some(span) = self.call(|facades| facades.attempt(attempt)) {
            use tracing::Instrument;
            return Box::pin(opening.instrument(span));
        }
        #[cfg(not(feature = "tracing"))]
        let _ = attempt;
        opening
    }

    /// Something has happened.
    pub(super) fn tell(&mut self, incident: &LogEvent) {
        self.call(|facades| facades.tell(incident));
    }

    /// The listener is over.
    pub(super) fn end(&mut self, cause: Option<&Error>) {
        self.call(|facades| facades.end(cause));
    }

    /// The figures have changed.
    pub(super) fn count(&mut self, stats: impl FnOnce() -> Stats) {
        self.call(|facades| facades.count(stats));
    }

    /// Why nothing more is told, once.
    pub(super) fn poll_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    fn call<T>(&mut self, call: impl FnOnce(&mut Facades) -> T) -> Option<T> {
        let facades = self.facades.as_mut()?;
        match catch_unwind(AssertUnwindSafe(|| call(facades))) {
            Ok(value) => Some(value),
            Err(payload) => {
                self.failure = Some(Error::panicked(WHAT, &*payload));
                self.let_go();
                None
            }
        }
    }

    /// Spans and figures end by calls of the same code.
    fn let_go(&mut self) {
        if let Some(facades) = self.facades.take()
            && let Err(payload) = catch_unwind(AssertUnwindSafe(move || {
                let _last = facades;
            }))
        {
            // What has panicked may panic again: the first time is told.
            self.failure.get_or_insert_with(|| Error::panicked(WHAT, &*payload));
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.let_go();
    }
}
