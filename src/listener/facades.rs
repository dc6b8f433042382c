//! The log events, spans and metrics of a listener or a hub, through the facades of `tracing` and `metrics`.

#[cfg(feature = "tracing")]
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "metrics")]
use super::metrics::ListenerMetrics;
use super::stats::Stats;
use crate::config::Config;
use crate::error::Error;
#[cfg(feature = "tracing")]
use crate::proto::supervisor::Owner;
use crate::proto::supervisor::{LogEvent, Policy};

/// The span and the metrics of one listener or hub.
pub(super) struct Facades {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
    #[cfg(feature = "tracing")]
    owner: Owner,
    #[cfg(feature = "metrics")]
    metrics: ListenerMetrics,
}

impl Facades {
    /// Opens the span of a listener or a hub. It contains no secret of `config`.
    pub(super) fn new(config: &Config, policy: &Policy) -> Self {
        // They are not used without the features.
        let _ = (config, policy);
        #[cfg(feature = "tracing")]
        let span = {
            static LISTENERS: AtomicU64 = AtomicU64::new(1);
            let id = LISTENERS.fetch_add(1, Ordering::Relaxed);
            let application = config.effective().application_name();
            let span = match policy.owner {
                Owner::Listener => tracing::info_span!("pgbell_listener", id, application),
                Owner::Hub => tracing::info_span!("pgbell_hub", id, application),
                Owner::Wakeups => tracing::info_span!("pgbell_wakeups", id, application),
            };
            tracing::info!(
                parent: &span,
                channels = policy.channels.len(),
                reconnect = policy.reconnect.is_some(),
                heartbeat = ?policy.heartbeat.interval,
                max_lifetime = ?policy.max_lifetime,
                "configured"
            );
            span
        };
        Self {
            #[cfg(feature = "tracing")]
            span,
            #[cfg(feature = "tracing")]
            owner: policy.owner,
            #[cfg(feature = "metrics")]
            metrics: ListenerMetrics::new(config.effective().application_name()),
        }
    }

    /// Returns the span of an attempt to connect.
    #[cfg(feature = "tracing")]
    pub(super) fn attempt(&self, attempt: u64) -> tracing::Span {
        tracing::info_span!(parent: &self.span, "connect", attempt)
    }

    /// Logs an event, and updates the metrics that depend on it.
    pub(super) fn record(&mut self, event: &LogEvent) {
        #[cfg(feature = "tracing")]
        self.log(event);
        #[cfg(feature = "metrics")]
        self.metrics.record(event);
        #[cfg(not(any(feature = "tracing", feature = "metrics")))]
        let _ = event;
    }

    #[cfg(feature = "tracing")]
    fn log(&self, event: &LogEvent) {
        use tracing::{info, warn};

        let span = &self.span;
        match event {
            LogEvent::Established { epoch, channels, refused: 0 } => {
                info!(parent: span, epoch, channels, "established: every channel is active");
            }
            LogEvent::Established { epoch, channels, refused } => {
                warn!(parent: span, epoch, channels, refused, "established, but channels are refused");
            }
            LogEvent::ManyChannels { channels } => {
                warn!(
                    parent: span,
                    channels,
                    "this many channels are slow: use fewer, and put the topic into the payload"
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
                warn!(parent: span, error = %format_args!("{error:#}"), "the server refused a heartbeat");
            }
            LogEvent::HookFailed { error, delay } => {
                warn!(parent: span, error = %format_args!("{error:#}"), ?delay, "the {} hook runs again", self.owner.hook());
            }
            LogEvent::HandedOver { epoch } => {
                info!(parent: span, epoch, "handed over to another session, without a gap");
            }
            LogEvent::HandoverFailed { error, delay } => {
                warn!(parent: span, error = %format_args!("{error:#}"), ?delay, "a handover failed, the session continues");
            }
        }
    }

    /// Logs the end of the listener.
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

    /// Updates the metrics.
    pub(super) fn update(&mut self, stats: impl FnOnce() -> Stats) {
        #[cfg(feature = "metrics")]
        self.metrics.update(&stats());
        #[cfg(not(feature = "metrics"))]
        let _ = stats;
    }
}
