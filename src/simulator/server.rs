//! [`SimulatedServer`]: a simulated server with its status and its commits.

use super::clock::Micros;
use super::subscriptions::ChannelId;
use crate::testing::{Backend, BackendConfig, Proxy};

/// How a server answers a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Up,
    /// It refuses TCP connections.
    Down,
    /// It answers with FATAL 57P03.
    Starting,
}

/// A committed notification.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) channel: ChannelId,
    pub(super) at: Micros,
    /// The channel was reported as active: the notification must arrive, or be covered by a gap.
    pub(super) is_expected: bool,
    /// The channel was reported as not active: the notification must not arrive.
    pub(super) is_forbidden: bool,
    /// The server had forgotten the channels of the session. The next heartbeat detects it, perhaps after later
    /// notifications of a channel that the user requested again.
    pub(super) may_be_missed: bool,
    /// The subscriptions of a hub that must receive it, or a report of its loss.
    pub(super) subscribers: Vec<usize>,
    /// Its position in the stream of the listener.
    pub(super) position: Option<u64>,
}

/// The first process id that encodes the number of a commit, so that commits with the same payload are distinct.
const FIRST: i32 = 1_000_000;

pub(super) struct SimulatedServer {
    pub(super) backend: Backend,
    pub(super) status: Status,
    pub(super) log: Vec<Commit>,
}

impl SimulatedServer {
    pub(super) fn new(index: usize, is_proxied: bool) -> Self {
        let first = i32::try_from(index).unwrap() * 10_000 + 1_000;
        let proxy = if is_proxied { Proxy::SharedListen } else { Proxy::None };
        let config = BackendConfig::new().first_process_id(first).proxy(proxy);
        let backend = Backend::new(config);
        Self { backend, status: Status::Up, log: Vec::new() }
    }

    /// Returns the process id of the next commit.
    pub(super) fn next_process_id(&self) -> i32 {
        FIRST + i32::try_from(self.log.len()).unwrap()
    }

    /// Returns the number of a commit. `None` if a session of the listener sent the notification.
    pub(super) fn number(process_id: i32) -> Option<usize> {
        usize::try_from(process_id - FIRST).ok()
    }
}

/// Returns the payload of a commit. Some payloads are equal.
pub(super) fn payload(server: usize, number: usize) -> String {
    match number % 7 {
        3 | 4 => "again".to_owned(),
        5 => String::new(),
        6 => format!("{server}:{number}:{}", "x".repeat(number % 300)),
        _ => format!("{server}:{number}"),
    }
}
