//! [`Listen`]: whether notifications are used, and [`WakeupsStatus`]: whether they are used now.

use std::fmt;

use crate::error::Error;

/// Whether [`Wakeups`](crate::Wakeups) listen, or only poll: [`WakeupsBuilder::listen`](crate::WakeupsBuilder::listen).
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// use pgbell::{Listen, WakeTask, Wakeups};
///
/// let wakeups = Wakeups::builder("postgres://localhost/shop")
///     .task(WakeTask::new("mail").channel("mail"))
///     .listen(Listen::Automatic)
///     .connect()
///     .await?;
/// println!("{}", wakeups.status());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Listen {
    /// There is a listening session. If the first attempt to open it fails, [`connect`](crate::WakeupsBuilder::connect) returns the error.
    #[default]
    Enabled,
    /// There is no connection at all: only the intervals wake.
    Disabled,
    /// There is a listening session if a proof shows that notifications arrive. If not, only the intervals wake, and
    /// [`status`](crate::Wakeups::status) contains the reason.
    ///
    /// Each new session is checked before its notifications wake a worker: a second session to the same server sends a random payload on a
    /// channel with a random name, and the first one must receive it within 3 s. So the session listens to one more channel,
    /// and the server needs a free connection for a moment. A pooler in transaction mode, a proxy that answers LISTEN and
    /// delivers nothing, and a standby do not pass. After a failure the next attempt follows with the delay of
    /// [`backoff`](crate::WakeupsBuilder::backoff), so listening begins when it becomes possible.
    /// A later session that does not pass is checked again with growing delays, until it passes or is lost.
    Automatic,
}

/// Whether notifications wake at the moment: [`Wakeups::status`](crate::Wakeups::status).
///
/// ```no_run
/// # fn example(wakeups: &pgbell::Wakeups) {
/// use pgbell::WakeupsStatus;
///
/// match wakeups.status() {
///     WakeupsStatus::Listening => println!("woken by notifications"),
///     WakeupsStatus::Polling(error) => println!("woken by the interval only: {error:#}"),
///     other => println!("{other:?}"),
/// }
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum WakeupsStatus {
    /// The session listens: notifications wake, and the intervals too.
    Listening,
    /// Only the intervals wake: [`Listen::Disabled`].
    Disabled,
    /// Only the intervals wake, for this reason. The session was lost, or [`Listen::Automatic`] has no session that delivers.
    Polling(Error),
    /// Nothing wakes: the wake-ups are closed.
    Closed,
}

impl WakeupsStatus {
    /// Returns whether notifications wake.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        matches!(self, Self::Listening)
    }
}

/// Writes the status, and the reason of polling with its causes.
impl fmt::Display for WakeupsStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening => f.write_str("listening"),
            Self::Disabled => f.write_str("polling only: listening is disabled"),
            Self::Polling(reason) => write!(f, "polling only: {reason:#}"),
            Self::Closed => f.write_str("closed"),
        }
    }
}
