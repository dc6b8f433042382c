//! The settings of a listener, which do not change after it has started.

use std::time::Duration;

use super::flow::Overflow;
use super::owner::Owner;
use crate::config::CONNECT_TIMEOUT_DEFAULT;
use crate::proto::session::READ_DELAY_MAX;

/// The default timeout of a clean close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest wait for an answer, even if other data arrives. A proxy may stop forwarding what we send, and still forward
/// the data of the server, which the timeouts of TCP do not notice. It is long, because a server that sends very many notifications answers after them.
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_secs(300);

/// The longest time without data while a LISTEN or UNLISTEN is unanswered or a fence notification is awaited, even if the
/// timeout of heartbeats is longer.
pub(super) const SILENCE_TIME_MAX: Duration = Duration::from_secs(30);

/// The settings of a supervisor. The defaults are those of a `ListenerBuilder`.
///
/// ```
/// # #[cfg(feature = "proto")] {
/// use std::time::Duration;
/// use pgbell::proto::supervisor::{Heartbeat, Policy};
///
/// let mut policy = Policy::default();
/// policy.channels = vec!["orders".to_owned()];
/// policy.heartbeat = Heartbeat::new(Duration::from_secs(5), Duration::from_secs(3));
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
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
    /// The longest delay of a read while data arrives densely: see [`ReadDelay`](crate::proto::session::ReadDelay). With zero no
    /// read is delayed.
    pub read_delay: Duration,
    /// The limits of the hook, which [`Action::RunHook`](super::Action::RunHook) runs before anything is delivered.
    /// `None`: there is no hook.
    pub hook: Option<HookPolicy>,
    /// For the texts of errors.
    pub(crate) owner: Owner,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            channels: Vec::new(),
            overflow: Overflow::default(),
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            close_timeout: CLOSE_TIMEOUT,
            reconnect: Some(Reconnect::default()),
            heartbeat: Heartbeat::default(),
            max_lifetime: None,
            read_delay: READ_DELAY_MAX,
            hook: None,
            owner: Owner::default(),
        }
    }
}

/// The limits of the hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HookPolicy {
    /// The timeout of a run. A run that takes longer is cancelled, and has failed.
    pub timeout: Duration,
    /// The number of failures in a row after which the listener ends with the last error. `None`: no limit. Before the
    /// first success, one failure ends the listener.
    pub failures_max: Option<u32>,
}

/// 30 seconds for a run, and any number of failures.
impl Default for HookPolicy {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), failures_max: None }
    }
}

/// The delays of reconnecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconnect {
    /// The shortest delay before an attempt.
    pub min: Duration,
    /// The longest delay. After a session that was live for at least this time the next delay is short again.
    pub max: Duration,
    /// True if a refused login is tried again, because another host or a new password may help.
    pub retry_refusals: bool,
}

impl Reconnect {
    /// Returns the delays from `min` to `max`. A refused login is not tried again.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, retry_refusals: false }
    }
}

/// 50 milliseconds to 30 seconds.
impl Default for Reconnect {
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(30))
    }
}

/// The interval and the timeout of heartbeats.
///
/// At every interval the server is asked what the session listens to. While the answer is missing, the server must send
/// something within `timeout`. The same is true for LISTEN and UNLISTEN on a live session, with a timeout of at most 30 s.
/// So a dead peer is noticed after at most `interval + timeout`. A peer that still sends, but does not answer, is given up
/// after five minutes, or after `timeout` if that is longer. While a user's query runs, there is no heartbeat and no
/// timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Heartbeat {
    /// The time from one heartbeat to the next.
    pub interval: Duration,
    /// The longest time without data from the server while the answer to a heartbeat is missing.
    pub timeout: Duration,
}

impl Heartbeat {
    /// Returns an interval and a timeout.
    #[must_use]
    pub fn new(interval: Duration, timeout: Duration) -> Self {
        Self { interval, timeout }
    }
}

/// An interval of 10 s and a timeout of 8 s: a dead session is detected within 18 s.
impl Default for Heartbeat {
    fn default() -> Self {
        Self::new(Duration::from_secs(10), Duration::from_secs(8))
    }
}
