//! A server: what it is ready for, and what was committed on it.

use super::clock::Micros;
use super::subscriptions::ChannelId;
use crate::testing::{Backend, BackendConfig, Proxy};

/// Whom a connection finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Up,
    /// Nobody answers the door.
    Down,
    /// FATAL 57P03.
    Starting,
}

/// A notification that somebody committed.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) channel: ChannelId,
    pub(super) at: Micros,
    /// The user was told that this channel is listened to.
    pub(super) is_expected: bool,
    /// The user was told that this channel is not listened to.
    pub(super) is_forbidden: bool,
    /// The server had forgotten that somebody listens: the listener learns of it at the next proof, perhaps
    /// after later notifications of a channel that the user asked for again.
    pub(super) is_unheard: bool,
    /// Its place in the listener's stream.
    pub(super) position: Option<u64>,
}

/// Process ids from here on are numbers of commits: so each is told from its equals, though its payload is
/// the same.
const FIRST: i32 = 1_000_000;

pub(super) struct Server {
    pub(super) backend: Backend,
    pub(super) status: Status,
    pub(super) log: Vec<Commit>,
}

impl Server {
    pub(super) fn new(index: usize, is_proxied: bool) -> Self {
        let first = i32::try_from(index).unwrap() * 10_000 + 1_000;
        let proxy = if is_proxied { Proxy::SharedListen } else { Proxy::None };
        let config = BackendConfig::new().first_process_id(first).proxy(proxy);
        let backend = Backend::new(config);
        Self { backend, status: Status::Up, log: Vec::new() }
    }

    /// The process id that the next commit gets.
    pub(super) fn next_process_id(&self) -> i32 {
        FIRST + i32::try_from(self.log.len()).unwrap()
    }

    /// The number of a commit, unless a session of the server sent it.
    pub(super) fn number(process_id: i32) -> Option<usize> {
        usize::try_from(process_id - FIRST).ok()
    }
}

/// What is said with commit `number` of a server. Some say the same.
pub(super) fn payload(server: usize, number: usize) -> String {
    match number % 7 {
        3 | 4 => "again".to_owned(),
        5 => String::new(),
        6 => format!("{server}:{number}:{}", "x".repeat(number % 300)),
        _ => format!("{server}:{number}"),
    }
}
