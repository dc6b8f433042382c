//! The purpose of a command that was sent to the server. The names in it are kept by the session until it is answered.

use super::action::{Command, CommandNumber, LinkId};
use super::heartbeat_query::{ExpectedChannels, HeartbeatQuery};
use crate::error::Error;
use crate::proto::session::Answer;
use crate::proto::wire::TransactionStatus;

#[derive(Debug)]
pub(super) enum CommandPurpose {
    /// LISTEN for some of the wanted channels on a new session.
    Restore,
    /// LISTEN for the private channel of a handover.
    ListenPrivate,
    /// NOTIFY that sends the fence notification.
    Fence,
    /// UNLISTEN for the private channel of a handover. `tries` is the number of tries that are left.
    UnlistenPrivate { tries: u32 },
    /// The query of a heartbeat with its expected answer. `None`: the expected answer is not known.
    Heartbeat { query: HeartbeatQuery, expected: Option<ExpectedChannels> },
    /// NOTIFY that sends a self-notification.
    SelfNotify,
    /// LISTEN for the channel of self-notifications, after UNLISTEN of all channels.
    RelistenPrivate,
    /// A user's command.
    User { id: CommandNumber, change: Change },
    /// ROLLBACK after a user's query that left a transaction open, in which nothing is delivered. The answer to the query
    /// waits for it. `refusal` is the error of the query itself.
    Rollback { id: CommandNumber, refusal: Option<Error> },
    /// ROLLBACK of a transaction that is not ours. Then the session is replaced.
    LeaveTransaction,
}

/// The change that a user's command makes when the server confirms it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Listen,
    Unlisten,
    UnlistenAll,
    Query,
    Drain,
}

/// A command with its answer.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) link: LinkId,
    pub(super) purpose: CommandPurpose,
    /// The channels of a LISTEN or UNLISTEN.
    pub(super) channels: Vec<String>,
    pub(super) result: Answer,
    pub(super) status: TransactionStatus,
}

impl CommandPurpose {
    /// Returns true for a user's query, which may take any time.
    pub(super) fn is_query(&self) -> bool {
        matches!(self, Self::User { change: Change::Query, .. })
    }

    /// Returns true if an error in answer to this command must be followed by a heartbeat on servers that send stray
    /// errors. After an error in answer to another command there is a heartbeat in any case, or the end of the session.
    pub(super) fn may_get_stray_error(&self) -> bool {
        matches!(self, Self::User { .. } | Self::Rollback { .. } | Self::UnlistenPrivate { .. })
    }

    /// Returns true for a LISTEN on a live session.
    pub(super) fn listens(&self) -> bool {
        matches!(
            self,
            Self::ListenPrivate | Self::RelistenPrivate | Self::User { change: Change::Listen, .. }
        )
    }

    /// Returns true if a session becomes live only after the answer.
    pub(super) fn delays_live(&self) -> bool {
        matches!(self, Self::Restore | Self::ListenPrivate)
    }

    /// Returns true if the answer must not wait for room in the queue. Heartbeats and handovers can wait until the socket is
    /// read again. With `is_held` the queue is held back, and the consumer cannot make room before the private channel of a
    /// handover is left.
    pub(super) fn is_urgent(&self, is_held: bool) -> bool {
        match self {
            Self::UnlistenPrivate { .. } => is_held,
            Self::Restore | Self::User { .. } | Self::Rollback { .. } | Self::LeaveTransaction => {
                true
            }
            Self::ListenPrivate
            | Self::Fence
            | Self::Heartbeat { .. }
            | Self::SelfNotify
            | Self::RelistenPrivate => false,
        }
    }
}

impl Change {
    pub(super) fn of(command: &Command) -> Self {
        match command {
            Command::Listen(_) => Self::Listen,
            Command::Unlisten(_) => Self::Unlisten,
            Command::UnlistenAll => Self::UnlistenAll,
            Command::Drain { .. } => Self::Drain,
            Command::SimpleQuery(_) | Command::QueueUsage | Command::Rotate | Command::Close => {
                Self::Query
            }
        }
    }

    /// Returns true if the change can be made without a session, and is carried out by the next one.
    pub(super) fn may_be_pending(self) -> bool {
        matches!(self, Self::Listen | Self::Unlisten | Self::UnlistenAll)
    }
}
