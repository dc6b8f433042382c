//! What a listener is to do, decided once.

use std::time::Duration;

use super::Overflow;

/// What a supervisor must know before it begins.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Channels to be active before the listener counts as connected.
    pub channels: Vec<String>,
    /// What to do when the queue is full.
    pub overflow: Overflow,
    /// How long an attempt to connect may take, from the name to the first ReadyForQuery.
    pub connect_timeout: Duration,
    /// How long a clean close may take.
    pub close_timeout: Duration,
    /// Whether a lost session is followed by another one, and how soon. `None`: its loss ends the listener.
    pub reconnect: Option<Reconnect>,
    /// How often a live session is proven to be one.
    pub heartbeat: Heartbeat,
    /// How long a session may live before another one takes its place, without a gap. Up to a tenth is
    /// taken off it at random, so that many listeners do not do it at once.
    pub max_lifetime: Option<Duration>,
    /// How [`Action::RunHook`](super::Action::RunHook) is carried out before anything is delivered. `None`: there
    /// is no hook.
    pub hook: Option<HookPolicy>,
}

/// How long the hook may run, and how often it may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HookPolicy {
    /// A run that takes longer is cancelled, and is a failure.
    pub timeout: Duration,
    /// After so many failures in a row the listener ends with the last one. `None`: it never does. Before the first
    /// success, one failure is enough.
    pub failures_max: Option<u32>,
}

/// How to come back after a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconnect {
    /// Shortest delay before an attempt.
    pub min: Duration,
    /// Longest. A session that was live as long as this is stable: the next delay is short again.
    pub max: Duration,
    /// Whether a refused login is tried again: another host or a new password may help.
    pub retry_refusals: bool,
}

/// How a live session is proven to be one.
///
/// Every `every` the server is asked what the session listens to. This answer, and that to any LISTEN or UNLISTEN on a
/// live session, must come within `deadline` of the last bytes that came (LISTEN and UNLISTEN: 30 s at most): so a dead peer is noticed after at most
/// `every + deadline`. A slow one that still sends is given up after five minutes, or `deadline` if that is longer.
/// While a user's query runs, nothing is asked and nothing is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// From one proof to the next.
    pub every: Duration,
    /// How long nothing may come while a proof is due.
    pub deadline: Duration,
}
