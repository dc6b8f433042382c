//! What goes into a supervisor and what comes out of it, bytes and time excepted.

use std::fmt;
use std::time::Duration;

use crate::Error;
use crate::notification::Gap;
use crate::session::{Rows, Session};

/// Names one connection of a supervisor. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub(super) u32);

/// Names a command; the caller chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// What a listener is asked to do. `Debug` does not show the text of a query.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Listen to these channels: all or, when the server refuses one, none.
    Listen(Vec<String>),
    /// Stop listening to these.
    Unlisten(Vec<String>),
    /// Stop listening to every channel.
    UnlistenAll,
    /// Run SQL on the listening session. Delivery waits until it is done.
    SimpleQuery(String),
    /// Ask how full the server's notification queue is: the answer is that of a query, with one number in one row.
    QueueUsage,
    /// Let another session take the place of the current one, without a gap.
    Rotate,
    /// Stop listening, deliver everything that was committed before, then end as `Close` does.
    Drain {
        /// How long that may take.
        within: Duration,
    },
    /// End the session and the listener.
    Close,
}

/// A query may hold a password (`ALTER ROLE`), and waits inside a supervisor: its length only.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(channels) => f.debug_tuple("Listen").field(channels).finish(),
            Self::Unlisten(channels) => f.debug_tuple("Unlisten").field(channels).finish(),
            Self::UnlistenAll => f.write_str("UnlistenAll"),
            Self::SimpleQuery(sql) => write!(f, "SimpleQuery({} bytes)", sql.len()),
            Self::QueueUsage => f.write_str("QueueUsage"),
            Self::Rotate => f.write_str("Rotate"),
            Self::Drain { within } => f.debug_struct("Drain").field("within", within).finish(),
            Self::Close => f.write_str("Close"),
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Reply {
    /// To `Listen`.
    Listening(Listening),
    /// To `Unlisten` and `UnlistenAll`.
    Unlistened,
    /// To `SimpleQuery`: a result for each statement.
    Rows(Vec<Rows>),
    /// To `Rotate`: the exchange has begun, or the next session that is live was opened later than this was asked for, or
    /// is replaced by one that was.
    Rotating,
    /// To `Drain`: everything that was committed before stands in the queue.
    Drained,
}

/// How far a wish to listen has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Listening {
    /// The server has committed it: what is committed from now on arrives, or a loss is reported.
    Active,
    /// No session is up. The wish is kept; the gap that follows comes after it is active.
    Pending,
}

/// How far a wanted channel has come.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ChannelState {
    /// Waits for a session.
    Pending,
    /// The server has committed it.
    Active,
    /// The server refuses it, with this reason. It is tried again with every new session.
    Refused(Error),
}

/// Why [`RunHook`](Action::RunHook) is to be carried out: every wanted channel is active or refused, and
/// nothing is delivered before it is done.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Live {
    /// The listener has begun.
    Start,
    /// Notifications may be missing. The same is told to the consumer afterwards.
    AfterGap(Gap),
}

/// A listener with more channels than this is reported in the log. Up to PostgreSQL 18 a session with 1,000 channels
/// costs its server 2 µs for every notification of its database, whatever its channel is, and the cost of LISTEN grows with the
/// square of their number.
pub const CHANNELS_WARNED: usize = 1_000;

/// What people want to read in a log. Nothing depends on it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Incident {
    /// Every wanted channel is active or refused.
    Established {
        /// Number of the session.
        epoch: u32,
        /// How many channels are active.
        channels: usize,
        /// How many are refused.
        refused: usize,
    },
    /// More channels are wanted than is good for the server, and were not before: see [`CHANNELS_WARNED`].
    ManyChannels {
        /// How many are wanted.
        channels: usize,
    },
    /// A session was lost.
    Lost {
        /// Why.
        error: Error,
    },
    /// An attempt has failed.
    AttemptFailed {
        /// Why.
        error: Error,
    },
    /// The next attempt comes after a delay.
    Reconnecting {
        /// Why it is needed.
        error: Error,
        /// So long from now.
        delay: Duration,
    },
    /// The server has refused a proof of the subscription: that it still listens is not known, only that it is there. For
    /// the rest of the session something easier is asked for, if there is anything.
    ProofRefused {
        /// Why.
        error: Error,
    },
    /// The hook has failed.
    HookFailed {
        /// Why.
        error: Error,
        /// It runs again so long from now.
        delay: Duration,
    },
    /// Another session took the place of the current one.
    HandedOver {
        /// Number of the new session.
        epoch: u32,
    },
    /// The new session was of no use; the current one goes on.
    HandoverFailed {
        /// Why.
        error: Error,
        /// It is tried again so long from now.
        delay: Duration,
    },
}

/// What happened to a link.
#[derive(Debug)]
#[non_exhaustive]
pub enum LinkEvent {
    /// The socket is open. With it comes the session on it: ready, or logging in, which the supervisor then sees to.
    Opened(Box<Session>),
    /// It could not be opened, or broke.
    Failed(Error),
    /// The peer closed it.
    Eof,
    /// It was closed as [`Action::Close`] asked.
    Closed,
}

/// The state of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// The first session is being set up.
    Connecting,
    /// Every wanted channel is active or refused, and notifications arrive, but none is delivered yet: the hook
    /// runs, or waits to run again after a failure; or during a handover the server has dropped a notification, or has
    /// accepted a channel that it had refused, and the gap is reported when the handover is done.
    CatchingUp,
    /// Every wanted channel is active, or refused by the server: [`ChannelState`] says which. Notifications are
    /// delivered.
    Connected,
    /// The session was lost and another one is being set up.
    Reconnecting,
    /// Over.
    Closed,
}

/// In words: `catching up`.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::CatchingUp => "catching up",
            Self::Connected => "connected",
            Self::Reconnecting => "reconnecting",
            Self::Closed => "closed",
        })
    }
}

/// How to close a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// Write what is left, end the sending direction, read to the end. The supervisor bounds it in time.
    Graceful,
    /// At once.
    Abort,
}

/// What the shell must do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Action {
    /// Open a connection and report [`LinkEvent::Opened`] or [`LinkEvent::Failed`].
    Open {
        /// Its name from now on.
        link: LinkId,
    },
    /// Read from the socket, or leave it unread. A link begins with reading on. When it is switched on
    /// again, first hand in what was read and not yet handled.
    Read {
        /// Which.
        link: LinkId,
        /// Whether to read.
        on: bool,
    },
    /// From now on its notifications are delivered: what was read of it and not yet handled must lie where
    /// the queue can take it from.
    Deliver {
        /// Which.
        link: LinkId,
    },
    /// Close it. An abort ends an attempt to open it as well.
    Close {
        /// Which.
        link: LinkId,
        /// How.
        how: Close,
    },
    /// Run the user's hook as soon as no cancelled run of it is left. Report when it begins and how it ended.
    RunHook(Live),
    /// The session is gone: what the hook does is in vain.
    CancelHook,
    /// Write it down.
    Tell(Incident),
    /// Show the consumer what is held back: call [`Supervisor::release`](super::Supervisor::release), and give
    /// [`Sink::release`](super::Sink::release) what it returns. All that comes before this action can be seen
    /// from outside by then, the state above all.
    Release {
        /// Which of them this is.
        number: u64,
    },
    /// Answer a command.
    Reply {
        /// Which.
        id: CommandId,
        /// How it ended.
        result: Result<Reply, Error>,
    },
    /// The state has changed.
    State(State),
    /// Over. With the reason, unless it was asked for.
    Done(Result<(), Error>),
}
