//! What goes into a supervisor and what comes out of it, bytes and time excepted.

use std::fmt;

use crate::Error;
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

/// What happened to a link.
#[derive(Debug)]
#[non_exhaustive]
pub enum LinkEvent {
    /// The socket is open. With it comes the session on it, which may be ready or still log in.
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
    /// Every wanted channel is active.
    Connected,
    /// The session was lost and another one is being set up.
    Reconnecting,
    /// Over.
    Closed,
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
    /// Close it.
    Close {
        /// Which.
        link: LinkId,
        /// How.
        how: Close,
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
