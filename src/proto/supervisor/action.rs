//! The inputs and outputs of a supervisor, except bytes and time.

use std::fmt;
use std::time::Duration;

use crate::error::Error;
use crate::notification::Gap;
use crate::proto::session::{Rows, Session};

/// The number of one link of a supervisor. It is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub(super) u32);

/// The number of a command. The caller chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandNumber(pub u64);

/// A command to a listener. `Debug` does not show the text of a query.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Listen to these channels. If the server refuses one, none of them is listened to.
    Listen(Vec<String>),
    /// Stop listening to these channels.
    Unlisten(Vec<String>),
    /// Stop listening to every channel.
    UnlistenAll,
    /// Run SQL on the listening session. Nothing is delivered while it runs.
    SimpleQuery(String),
    /// Ask how full the server's notification queue is. The answer is one number in one row.
    QueueUsage,
    /// Replace the current session by a new one, without a gap.
    Rotate,
    /// Stop listening, deliver everything that was committed before, then end as `Close` does.
    Drain {
        /// The timeout for it.
        timeout: Duration,
    },
    /// End the session and the listener.
    Close,
}

/// Shows only the length of a query, because it may contain a password (`ALTER ROLE`).
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(channels) => f.debug_tuple("Listen").field(channels).finish(),
            Self::Unlisten(channels) => f.debug_tuple("Unlisten").field(channels).finish(),
            Self::UnlistenAll => f.write_str("UnlistenAll"),
            Self::SimpleQuery(sql) => write!(f, "SimpleQuery({} bytes)", sql.len()),
            Self::QueueUsage => f.write_str("QueueUsage"),
            Self::Rotate => f.write_str("Rotate"),
            Self::Drain { timeout } => f.debug_struct("Drain").field("timeout", timeout).finish(),
            Self::Close => f.write_str("Close"),
        }
    }
}

/// The successful result of a command.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Reply {
    /// The reply to `Listen`.
    Listening(Listening),
    /// The reply to `Unlisten` and `UnlistenAll`.
    Unlistened,
    /// The reply to `SimpleQuery`: a result for each statement.
    Rows(Vec<Rows>),
    /// The reply to `Rotate`: the handover has begun, or the next live session is one whose attempt began after this command.
    Rotating,
    /// The reply to `Drain`: everything that was committed before is in the queue.
    Drained,
}

/// The result of a command that listens to channels.
///
/// ```no_run
/// # async fn example(handle: pgbell::ListenerHandle) -> Result<(), pgbell::Error> {
/// use pgbell::Listening;
///
/// if handle.listen("orders").await? == Listening::Pending {
///     println!("there is no session; the next one listens to orders");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Listening {
    /// The server has confirmed LISTEN. What is committed from now on arrives, or a loss is reported.
    Active,
    /// There is no session. The next session listens to the channels, before the gap is reported.
    Pending,
}

/// The state of a wanted channel.
///
/// ```no_run
/// # async fn example(handle: pgbell::ListenerHandle) -> Result<(), pgbell::Error> {
/// use pgbell::ChannelState;
///
/// for (channel, state) in handle.channels().await? {
///     if let ChannelState::Refused(error) = state {
///         println!("{channel}: {error:#}");
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ChannelState {
    /// The server has not confirmed LISTEN yet.
    Pending,
    /// The server has confirmed LISTEN.
    Active,
    /// The server refuses it with this error. It is tried again with every new session.
    Refused(Error),
}

/// The reason to run the hook.
///
/// Every wanted channel is active or refused, and nothing is delivered before the hook is done.
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// use pgbell::{Listener, Live};
///
/// let listener = Listener::builder("postgres://localhost/shop")
///     .channels(["orders"])
///     .on_live(|mut connection, live| async move {
///         match live {
///             Live::Start => println!("the first session"),
///             Live::AfterGap(gap) => println!("{gap}"),
///             _ => {}
///         }
///         connection.simple_query("SELECT id FROM orders WHERE NOT done").await?;
///         connection.close().await;
///         Ok(())
///     })
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Live {
    /// The listener starts.
    Start,
    /// Notifications may be missing. The consumer gets the same loss afterwards; its duration then includes the hook.
    AfterGap(Gap),
}

/// The number of channels above which a listener writes a warning to the log.
///
/// Up to PostgreSQL 18 a session with 1,000 channels costs its server 2 µs for every notification of its database,
/// on any channel. The cost of LISTEN grows with the square of the number of channels.
pub const CHANNELS_WARNED: usize = 1_000;

/// An event to be written to the log. Nothing else depends on it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LogEvent {
    /// Every wanted channel is active or refused.
    Established {
        /// The number of the session.
        epoch: u32,
        /// The number of active channels.
        channels: usize,
        /// The number of refused channels.
        refused: usize,
    },
    /// The number of wanted channels has exceeded [`CHANNELS_WARNED`] on a server before version 19. It is logged once.
    ManyChannels {
        /// The number of wanted channels.
        channels: usize,
    },
    /// A session was lost.
    Lost {
        /// The cause.
        error: Error,
    },
    /// An attempt has failed.
    AttemptFailed {
        /// The cause.
        error: Error,
    },
    /// The next attempt begins after a delay.
    Reconnecting {
        /// The error of the last attempt or session.
        error: Error,
        /// The time until the next attempt.
        delay: Duration,
    },
    /// The server has refused the query of a heartbeat. This shows only that the server is alive, not that the session
    /// still listens. If there is a simpler query, the rest of the session uses it.
    HeartbeatRefused {
        /// The cause.
        error: Error,
    },
    /// The hook has failed.
    HookFailed {
        /// The cause.
        error: Error,
        /// The time until it runs again.
        delay: Duration,
    },
    /// A handover is done: the new session is the current one.
    HandedOver {
        /// The number of the new session.
        epoch: u32,
    },
    /// A handover has failed. The old session goes on.
    HandoverFailed {
        /// The cause.
        error: Error,
        /// The time until the next handover.
        delay: Duration,
    },
}

/// An event of a link.
#[derive(Debug)]
#[non_exhaustive]
pub enum LinkEvent {
    /// The socket is open. Its session is ready, or logging in; the supervisor then completes the login.
    Opened(Box<Session>),
    /// The link could not be opened, or is broken.
    Failed(Error),
    /// The peer has closed the link.
    Eof,
    /// The driver has closed the link, as [`Action::Close`] asked.
    Closed,
}

/// The state of a listener.
///
/// ```no_run
/// # async fn example(handle: pgbell::ListenerHandle) -> Result<(), pgbell::Error> {
/// use pgbell::State;
///
/// if handle.state() == State::Reconnecting {
///     println!("{:?}", handle.last_error());
/// }
/// handle.wait_state(State::Connected).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// The first session is being set up.
    Connecting,
    /// Every wanted channel is active or refused, and notifications arrive, but none is delivered yet.
    ///
    /// The hook runs, or waits to run: at the start, after a lost session, after a notification that the server has dropped, or
    /// again after a failure. Or the server has dropped a notification during a handover, or has accepted a channel that it had
    /// refused; then the gap is reported when the handover is done.
    CatchingUp,
    /// Every wanted channel is active, or refused by the server: [`ChannelState`] says which. Notifications are
    /// delivered.
    Connected,
    /// The session was lost, and the next one is being set up.
    Reconnecting,
    /// The listener has ended.
    Closed,
}

/// Writes the state in words: `catching up`.
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

/// The way to close a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// Write what is left, end the sending direction, read to the end. The supervisor sets the timeout.
    Graceful,
    /// Close at once.
    Abort,
}

/// An action that the driver must carry out.
#[derive(Debug)]
#[non_exhaustive]
pub enum Action {
    /// Open a connection and report [`LinkEvent::Opened`] or [`LinkEvent::Failed`].
    Open {
        /// The number of the new link.
        link: LinkId,
    },
    /// Start or stop reading from the socket. A new link is read. When reading starts again, first pass in what was read
    /// and not yet handled.
    Read {
        /// The link.
        link: LinkId,
        /// True to read.
        on: bool,
    },
    /// Deliver the notifications of this link from now on. What was read from it and not yet handled must be in a buffer
    /// that the queue can take.
    Deliver {
        /// The link.
        link: LinkId,
    },
    /// Close a link. An abort also ends an attempt to open it.
    Close {
        /// The link.
        link: LinkId,
        /// The way to close it.
        how: Close,
    },
    /// Run the user's hook as soon as no cancelled run of it is left. Report its begin and its result.
    RunHook(Live),
    /// Cancel the hook: the session is lost, the run has timed out, or the listener ends.
    CancelHook,
    /// Write an event to the log.
    Log(LogEvent),
    /// Show the consumer what is held back: call [`Supervisor::prepare_release`](super::Supervisor::prepare_release), and
    /// after true [`Supervisor::release`](super::Supervisor::release). The effects of all earlier actions, above all the
    /// state, must be visible to the user before.
    Release {
        /// The number of this release.
        number: u64,
    },
    /// Answer a command.
    Reply {
        /// The command.
        id: CommandNumber,
        /// The result of the command.
        result: Result<Reply, Error>,
    },
    /// Answer every further command except `Close` with this error, without passing it in: the listener drains or is ending.
    RefuseCommands(Error),
    /// The state has changed.
    State(State),
    /// The listener has ended: with an error, unless the user asked for the end.
    Done(Result<(), Error>),
}
