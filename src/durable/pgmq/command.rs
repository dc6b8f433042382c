//! [`Command`]: what a consumer does on the server, with its answers and its effects.

use std::sync::Arc;
use std::time::Duration;

use super::fate::Fates;
use super::found::Found;

/// A read of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) msg_id: i64,
    /// How often it was read, this time included.
    pub(super) attempt: u32,
}

/// What must be done on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Reads at most this number of messages.
    Read(usize),
    /// Makes messages visible after a time from now.
    SetVisibility(Vec<(Claim, Duration)>),
    /// Makes messages visible now, and takes back that they were read.
    Release(Vec<Claim>),
    /// Archives or deletes.
    Finish(Vec<Claim>),
    /// Archives or deletes, and then reads at most this number of messages: both or neither.
    FinishAndRead(Vec<Claim>, usize),
    /// Puts aside, with a reason.
    Bury(Vec<(Claim, Arc<str>)>),
    /// Asks when the next message becomes visible, of those that are hidden or became visible within the time `since`, without those of this consumer.
    LookAhead { held: Vec<i64>, since: Duration },
}

/// The answer to a command.
#[derive(Debug)]
pub(super) enum Answer {
    Read(Found),
    /// To a command that changes messages.
    Changed(Fates),
    FinishedAndRead(Fates, Found),
    /// The time until a message becomes visible, if one is hidden.
    VisibleIn(Option<Duration>),
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// Nothing was changed.
    Undone,
    /// The server may have done it.
    InDoubt,
    /// The server refuses it for one of the jobs, and would do so again. Nothing was changed.
    Refused,
}

/// How a run of the handler has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Failed(String),
    Cancelled,
    /// The handler was not called.
    NotStarted,
}

/// What the machine reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// The visibility timeout of a job was extended, or another reader has the job.
    Extended {
        msg_id: i64,
        is_held: bool,
    },
    /// It was not extended, because a transaction has it locked.
    Locked {
        msg_id: i64,
    },
    Dead {
        msg_id: i64,
        attempts: u32,
        reason: Arc<str>,
    },
    Overtaken {
        msg_id: i64,
    },
    /// The server refuses to store the end of a job.
    Refused {
        msg_id: i64,
    },
}
