//! The log events, spans and metrics of a listener, and what happens if a subscriber or a recorder panics.
//!
//! Without the features `tracing` and `metrics` this does nothing and costs nothing. Subscribers and recorders are code
//! of the user. A panic in one of them does not end the listener: it is not called again, and
//! [`last_error`](crate::ListenerHandle::last_error) returns the reason.

use super::facades::Facades;
use super::stats::Stats;
use crate::config::Config;
use crate::error::{Error, contain};
use crate::net::OpeningFuture;
use crate::proto::supervisor::{LogEvent, Policy};

/// The name of the code that panics, for the error message.
const USER_CODE: &str = "a subscriber of tracing or a recorder of metrics";

pub(super) struct Telemetry {
    /// `None` after a panic.
    facades: Option<Facades>,
    failure: Option<Error>,
}

impl Telemetry {
    /// Opens the span of a listener. It contains no secret of `config`. A panic in the subscriber or the recorder is
    /// passed on to the caller.
    pub(super) fn new(config: &Config, policy: &Policy) -> Self {
        Self { facades: Some(Facades::new(config, policy)), failure: None }
    }

    /// Returns an attempt to connect with a span of its own.
    pub(super) fn instrument(&mut self, attempt: u64, opening: OpeningFuture) -> OpeningFuture {
        #[cfg(feature = "tracing")]
        if let Some(span) = self.call(|facades| facades.attempt(attempt)) {
            use tracing::Instrument;
            return Box::pin(opening.instrument(span));
        }
        #[cfg(not(feature = "tracing"))]
        let _ = attempt;
        opening
    }

    /// Logs an event, and updates the metrics that depend on it.
    pub(super) fn record(&mut self, event: &LogEvent) {
        self.call(|facades| facades.record(event));
    }

    /// Logs the end of the listener.
    pub(super) fn end(&mut self, cause: Option<&Error>) {
        self.call(|facades| facades.end(cause));
    }

    /// Updates the metrics.
    pub(super) fn update(&mut self, stats: impl FnOnce() -> Stats) {
        self.call(|facades| facades.update(stats));
    }

    /// Returns the panic of a subscriber or recorder, once.
    pub(super) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    fn call<T>(&mut self, call: impl FnOnce(&mut Facades) -> T) -> Option<T> {
        let facades = self.facades.as_mut()?;
        match contain(|| call(facades)) {
            Ok(value) => Some(value),
            Err(panic) => {
                self.failure = Some(Error::panicked(USER_CODE, &panic));
                self.drop_facades();
                None
            }
        }
    }

    /// Drops the span and the metrics. This calls the subscriber and the recorder again.
    fn drop_facades(&mut self) {
        if let Some(facades) = self.facades.take()
            && let Err(panic) = contain(move || {
                let _last = facades;
            })
        {
            // Code that has panicked may panic again: the first panic is reported.
            self.failure.get_or_insert_with(|| Error::panicked(USER_CODE, &panic));
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.drop_facades();
    }
}
