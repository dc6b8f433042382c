//! Log lines, spans and figures of a listener, through the facades of `tracing` and `metrics`.

#[cfg(feature = "tracing")]
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "metrics")]
use super::meters::Meters;
use super::shared::Stats;
use crate::supervisor::{LogEvent, Policy};
use crate::{Config, Error};

/// All events of one listener are recorded in a span of its own.
pub(super) struct Facades {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
    #[cfg(feature = "metrics")]
    meters: Meters,
}

impl Facades {
    /// Opens the span of a listener. No secret of `config` is recorded.
    pub(super) fn new(config: &Config, policy: &Policy) -> Self {
        // Not used without the features.
        let _ = (config, policy);
        #[cfg(feature = "tracing")]
        let span = {
            static LISTENERS: AtomicU64 = AtomicU64::new(1);
            let id = LISTENERS.fetch_add(1, Ordering::Relaxed);
            let application = config.effective_application_name();
            let span = tracing::info_span!("pgbell_listener", id, application);
            tracing::info!(
                parent: &span,
                channels = policy.channels.len(),
                reconnect = policy.reconnect.is_some(),
                heartbeat = ?policy.heartbeat.every,
                max_lifetime = ?policy.max_lifetime,
                "configured"
            );
            span
        };
        Self {
            #[cfg(feature = "tracing")]
            span,
            #[cfg(feature = "metrics")]
            meters: Meters::new(config.effective_application_name()),
        }
    }

    /// The span of an attempt to connect.
    #[cfg(feature = "tracing")]
    pub(super) fn attempt(&self, attempt: u64) -> tracing::Span {
        tracing::info_span!(parent: &self.span, "connect", attempt)
    }

    /// Something has happened.
    pub(super) fn tell(&mut self, incident: &LogEvent) {
        #[cfg(feature = "tracing")]
        self.log(incident);
        #[cfg(feature = "metrics")]
        self.meters.tell(incident);
        #[cfg(not(any(feature = "tracing", feature = "metrics")))]
        let _ = incident;
    }

    #[cfg(feature = "tracing")]
    fn log(&self, incident: &LogEvent) {
        use tracing::{info, warn};

        let span = &self.span;
        match incident {
            LogEvent::Established { epoch, channels, refused: 0 } => {
                info!(parent: span, epoch, channels, "established: every channel is active");
            }
            LogEvent::Established { epoch, channels, refused } => {
                warn!(parent: span, epoch, channels, refused, "established, and channels are refused");
            }
            LogEvent::ManyChannels { channels } => {
                warn!(
                    parent: span,
                    channels,
                    "so many channels are slow: use fewer, and put the subject into the payload"
                );
            }
            LogEvent::Lost { error } => {
                warn!(parent: span, error = %format_args!("{error:#}"), "the session was lost");
            }
            LogEvent::AttemptFailed { error } => {
                warn!(parent: span, error = %format_args!("{error:#}"), "no session");
            }
            LogEvent::Reconnecting { error, delay } => {
                info!(parent: span, error = %format_args!("{error:#}"), ?delay, "reconnecting");
            }
            LogEvent::HeartbeatRefused { error } => {
                warn!(parent: span, error = %format_args!("{error:#}"), "the server does not say what it listens to");
            }
            LogEvent::HookFailed { error, delay } => {
                warn!(parent: span, error = %format_args!("{error:#}"), ?delay, "the on_live hook failed and runs again");
            }
            LogEvent::HandedOver { epoch } => {
                info!(parent: span, epoch, "handed over to another session, without a gap");
            }
            LogEvent::HandoverFailed { error, delay } => {
                warn!(parent: span, error = %format_args!("{error:#}"), ?delay, "a handover failed, the session goes on");
            }
        }
    }

    /// The listener is over.
    pub(super) fn end(&self, cause: Option<&Error>) {
        #[cfg(feature = "tracing")]
        match cause {
            None => tracing::info!(parent: &self.span, "closed"),
            Some(error) => {
                tracing::error!(parent: &self.span, error = %format_args!("{error:#}"), "ended");
            }
        }
        #[cfg(not(feature = "tracing"))]
        let _ = cause;
    }

    /// The figures have changed.
    pub(super) fn count(&mut self, stats: impl FnOnce() -> Stats) {
        #[cfg(feature = "metrics")]
        self.meters.count(&stats());
        #[cfg(not(feature = "metrics"))]
        let _ = stats;
    }
}
