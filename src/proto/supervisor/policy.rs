//! The settings of a listener, which do not change after it has started.

use std::time::Duration;

use super::Overflow;

/// The settings of a supervisor.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The channels that must be active before the listener is connected.
    pub channels: Vec<String>,
    /// What to do when the queue is full.
    pub overflow: Overflow,
    /// The timeout of an attempt to connect, from the name resolution to the first ReadyForQuery.
    pub connect_timeout: Duration,
    /// The timeout of a clean close.
    pub close_timeout: Duration,
    /// The delays of reconnecting. `None`: the loss of a session ends the listener.
    pub reconnect: Option<Reconnect>,
    /// The interval and the timeout of heartbeats.
    pub heartbeat: Heartbeat,
    /// The lifetime of a session, after which a handover replaces it. It is shortened by up to a tenth at random, so that
    /// many listeners do not begin a handover at once.
    pub max_lifetime: Option<Duration>,
    /// The limits of the hook, which [`Action::RunHook`](super::Action::RunHook) runs before anything is delivered.
    /// `None`: there is no hook.
    pub hook: Option<HookPolicy>,
}

/// The limits of the hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HookPolicy {
    /// The timeout of a run. A run that takes longer is cancelled, and has failed.
    pub timeout: Duration,
    /// The number of failures in a row after which the listener ends with the last error. `None`: no limit. Before the
    /// first success, one failure ends the listener.
    pub failures_max: Option<u32>,
}

/// The delays of reconnecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconnect {
    /// The shortest delay before an attempt.
    pub min: Duration,
    /// The longest delay. After a session that was live for at least this time the next delay is short again.
    pub max: Duration,
    /// True if a refused login is tried again, because another host or a new password may help.
    pub retry_refusals: bool,
}

/// The interval and the timeout of heartbeats.
///
/// At every interval the server is asked what the session listens to. While the answer is missing, the server must send
/// something within `timeout`. The same is true for LISTEN and UNLISTEN on a live session, with a timeout of at most 30 s.
/// So a dead peer is noticed after at most `interval + timeout`. A peer that still sends, but does not answer, is given up
/// after five minutes, or after `timeout` if that is longer. While a user's query runs, there is no heartbeat and no
/// timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// The time from one heartbeat to the next.
    pub interval: Duration,
    /// The longest time without data from the server while the answer to a heartbeat is missing.
    pub timeout: Duration,
}
