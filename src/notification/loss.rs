//! [`Gap`], [`Lagged`] and [`Loss`]: which notifications are missing, and where. [`Event`] contains them.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use super::Notification;
use crate::error::Error;

/// Notifications may be missing here: the server may have sent some that were not received.
///
/// The session was lost, or the server reported that it dropped a notification. Their number is unknown:
/// PostgreSQL does not store notifications.
///
/// A gap is delivered after the server confirmed or refused LISTEN for every channel again, and before any later
/// notification. An application that reads its tables when it receives a gap misses nothing.
///
/// ```no_run
/// # async fn example(mut listener: pgbell::Listener) -> Result<(), pgbell::Error> {
/// use pgbell::Event;
///
/// if let Event::Gap(gap) = listener.recv().await? {
///     let outage = gap.restored_at().duration_since(gap.lost_at()).unwrap_or_default();
///     println!("{} sessions lost, {outage:?}, {} attempts", gap.sessions(), gap.attempts());
///     println!("because of {:#}", gap.cause());
///     for (channel, error) in gap.refused() {
///         println!("no longer listening to {channel}: {error:#}");
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Gap(
    // Boxed: gaps are rare, and must not make every `Event` larger.
    Box<GapDetails>,
);

#[derive(Clone)]
struct GapDetails {
    cause: Error,
    lost_at: SystemTime,
    restored_at: SystemTime,
    attempts: u32,
    epoch: u32,
    sessions: u32,
    refusals: Refusals,
    /// The content of `refusals` when [`Gap::refused`] was first called.
    refused: OnceLock<Refused>,
}

/// The refused channels, each with the error of the server.
type Refused = Arc<[(String, Error)]>;

/// The channels that the server of a listener refuses. All unread gaps share one list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusals(Arc<Mutex<Refused>>);

impl Refusals {
    /// Replaces the list. Every other wanted channel is active.
    pub(crate) fn set(&self, refused: Vec<(String, Error)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = refused.into();
    }

    fn get(&self) -> Refused {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Gap {
    /// Creates the gap of an outage that has not ended: `sessions` were lost.
    pub(crate) fn new(cause: Error, lost_at: SystemTime, sessions: u32) -> Self {
        let mut gap = Self::within_session(cause, lost_at, 0);
        gap.0.sessions = sessions;
        gap
    }

    /// Adds the end of the outage: its time, the number of attempts, the next session and the refused channels.
    pub(crate) fn restored(
        mut self,
        at: SystemTime,
        attempts: u32,
        epoch: u32,
        refusals: Refusals,
    ) -> Self {
        let details = &mut self.0;
        (details.restored_at, details.attempts, details.epoch, details.refusals) =
            (at, attempts, epoch, refusals);
        self
    }

    /// Sets the number of the session that follows the gap.
    pub(crate) fn set_epoch(&mut self, epoch: u32) {
        self.0.epoch = epoch;
    }

    /// Creates a gap in a session that continues: the server reported a dropped notification.
    pub(crate) fn within_session(cause: Error, at: SystemTime, epoch: u32) -> Self {
        Self(Box::new(GapDetails {
            cause,
            lost_at: at,
            restored_at: at,
            attempts: 0,
            epoch,
            sessions: 0,
            refusals: Refusals::default(),
            refused: OnceLock::new(),
        }))
    }

    /// Merges a later gap into this one. Nothing was delivered between the two.
    pub(crate) fn merge(&mut self, later: Self) {
        let (details, later) = (&mut self.0, later.0);
        details.restored_at = later.restored_at;
        details.attempts = details.attempts.saturating_add(later.attempts);
        details.epoch = later.epoch;
        details.sessions = details.sessions.saturating_add(later.sessions);
        (details.refusals, details.refused) = (later.refusals, later.refused);
    }

    /// Merges a later gap into this one although notifications were delivered between the two. This gap keeps its
    /// position and its epoch, which is that of those notifications.
    #[allow(dead_code, reason = "a build without sockets has no queue")]
    pub(crate) fn absorb(&mut self, later: Self) {
        let epoch = self.0.epoch;
        self.merge(later);
        self.0.epoch = epoch;
    }

    /// Returns the cause. If several gaps were merged, it is the cause of the first one.
    #[must_use]
    pub fn cause(&self) -> &Error {
        &self.0.cause
    }

    /// Returns the time at which the loss was detected.
    #[must_use]
    pub fn lost_at(&self) -> SystemTime {
        self.0.lost_at
    }

    /// Returns the time at which the server had confirmed or refused LISTEN for every channel again. If that did not
    /// happen, it is the time at which the listener ended.
    #[must_use]
    pub fn restored_at(&self) -> SystemTime {
        self.0.restored_at
    }

    /// Returns the number of attempts to connect during the outage.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Returns the number of the session after the gap: the [`epoch`](Notification::epoch) of the next notification
    /// that is delivered. All later ones have this number or a higher one.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.0.epoch
    }

    /// Returns the number of sessions that were lost. Zero if the server dropped a notification in a session that
    /// continues.
    #[must_use]
    pub fn sessions(&self) -> u32 {
        self.0.sessions
    }

    /// Returns the length of the outage. Zero if the clock was set back during it.
    fn duration(&self) -> Duration {
        self.0.restored_at.duration_since(self.0.lost_at).unwrap_or_default()
    }

    /// Returns the channels that the server refuses, each with its error.
    ///
    /// All unread gaps share one list: the first call returns the state at the last gap before the call, and later
    /// calls return the same.
    #[must_use]
    pub fn refused(&self) -> &[(String, Error)] {
        self.0.refused.get_or_init(|| self.0.refusals.get())
    }
}

impl fmt::Debug for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GapDetails { cause, attempts, sessions, epoch, .. } = &*self.0;
        f.debug_struct("Gap")
            .field("cause", cause)
            .field("sessions", sessions)
            .field("duration", &self.duration())
            .field("attempts", attempts)
            .field("epoch", epoch)
            .field("refused", &self.refused().len())
            .finish_non_exhaustive()
    }
}

/// Writes one line: the cause, the number of lost sessions, the duration, and the number of refused channels.
impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GapDetails { cause, attempts, sessions, .. } = &*self.0;
        write!(f, "notifications may be missing here: {cause:#} (")?;
        match sessions {
            0 => f.write_str("no session was lost")?,
            1 => f.write_str("1 session lost")?,
            more => write!(f, "{more} sessions lost")?,
        }
        if *sessions > 0 {
            let plural = if *attempts == 1 { "" } else { "s" };
            write!(f, ", for {:.1} s, {attempts} attempt{plural}", self.duration().as_secs_f64())?;
        }
        match self.refused().len() {
            0 => f.write_str(")"),
            1 => f.write_str(", 1 channel refused)"),
            more => write!(f, ", {more} channels refused)"),
        }
    }
}

/// Notifications that were received and dropped, because the queue of this consumer was full.
///
/// ```no_run
/// # async fn example(mut listener: pgbell::Listener) -> Result<(), pgbell::Error> {
/// use pgbell::Event;
///
/// if let Event::Lagged(lagged) = listener.recv().await? {
///     println!("{} are missing, from number {} on", lagged.count(), lagged.first_sequence());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lagged {
    pub(crate) first_sequence: u64,
    pub(crate) count: u64,
}

impl Lagged {
    /// Returns the exact number of dropped notifications.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the [`sequence`](Notification::sequence) number of the first of them.
    #[must_use]
    pub fn first_sequence(&self) -> u64 {
        self.first_sequence
    }
}

impl fmt::Display for Lagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => f.write_str("1 notification was dropped: the queue was full"),
            more => write!(f, "{more} notifications were dropped: the queue was full"),
        }
    }
}

/// The loss before the notifications of a [`Batch`](super::Batch).
///
/// ```no_run
/// # async fn example(mut listener: pgbell::Listener) -> Result<(), pgbell::Error> {
/// use pgbell::Loss;
///
/// match listener.recv_batch().await?.loss() {
///     Some(Loss::Gap(gap)) => println!("an unknown number is missing: {gap}"),
///     Some(Loss::Lagged(lagged)) => println!("exactly {} are missing", lagged.count()),
///     _ => {}
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Loss {
    /// The server may have sent notifications that were not received.
    Gap(Gap),
    /// The queue was full, and an exact number of notifications was dropped.
    Lagged(Lagged),
}

/// Writes the text of the gap or of the lag.
impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap(gap) => gap.fmt(f),
            Self::Lagged(lagged) => lagged.fmt(f),
        }
    }
}

/// One element of the stream of a listener: a notification or a loss.
///
/// ```no_run
/// # async fn example(mut listener: pgbell::Listener) -> Result<(), pgbell::Error> {
/// use pgbell::Event;
///
/// match listener.recv().await? {
///     Event::Notification(order) => println!("{}: {}", order.channel(), order.payload()),
///     // Both are losses: read the state again.
///     Event::Gap(gap) => println!("{gap}"),
///     Event::Lagged(lagged) => println!("{lagged}"),
///     _ => {}
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A notification.
    Notification(Notification),
    /// The server may have sent notifications that were not received.
    Gap(Gap),
    /// The queue was full, and an exact number of notifications was dropped.
    Lagged(Lagged),
}

impl Event {
    /// Returns the notification, unless the event is a loss.
    ///
    /// ```no_run
    /// # async fn example(listener: &mut pgbell::Listener) -> Result<(), pgbell::Error> {
    /// let event = listener.recv().await?;
    /// if let Some(notification) = event.notification() {
    ///     println!("{}", notification.channel());
    /// } else if let Some(loss) = event.loss() {
    ///     println!("{loss}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn notification(&self) -> Option<&Notification> {
        match self {
            Self::Notification(notification) => Some(notification),
            Self::Gap(_) | Self::Lagged(_) => None,
        }
    }

    /// Returns the notification by value, unless the event is a loss.
    #[must_use]
    pub fn into_notification(self) -> Option<Notification> {
        match self {
            Self::Notification(notification) => Some(notification),
            Self::Gap(_) | Self::Lagged(_) => None,
        }
    }

    /// Returns the loss, unless the event is a notification. It is a copy: that of a [`Gap`] allocates.
    #[must_use]
    pub fn loss(&self) -> Option<Loss> {
        match self {
            Self::Notification(_) => None,
            Self::Gap(gap) => Some(Loss::Gap(gap.clone())),
            Self::Lagged(lagged) => Some(Loss::Lagged(*lagged)),
        }
    }
}

/// Writes one line, without the payload: it is the application's data.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Notification(notification) => notification.fmt(f),
            Self::Gap(gap) => gap.fmt(f),
            Self::Lagged(lagged) => lagged.fmt(f),
        }
    }
}

impl From<Loss> for Event {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::Gap(gap) => Self::Gap(gap),
            Loss::Lagged(lagged) => Self::Lagged(lagged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_gap_is_displayed_with_its_sessions_duration_attempts_and_refused_channels() {
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let cause = || Error::new(ErrorKind::Connect, "lost");
        let refusals = Refusals::default();
        let gap = Gap::new(cause(), at(0), 1).restored(at(1_250), 1, 2, refusals.clone());
        let words = "notifications may be missing here: connection: lost";
        assert_eq!(gap.to_string(), format!("{words} (1 session lost, for 1.2 s, 1 attempt)"));
        refusals.set(vec![("a".to_owned(), cause()), ("b".to_owned(), cause())]);
        let gap = Gap::new(cause(), at(0), 3).restored(at(60_000), 12, 2, refusals);
        assert_eq!(
            gap.to_string(),
            format!("{words} (3 sessions lost, for 60.0 s, 12 attempts, 2 channels refused)")
        );
        let gap = Gap::within_session(cause(), at(0), 1);
        assert_eq!(gap.to_string(), format!("{words} (no session was lost)"));
    }

    #[test]
    fn a_gap_and_a_lag_are_readable_in_debug_and_display() {
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let cause = Error::new(ErrorKind::Connect, "lost");
        let gap = Gap::new(cause, at(0), 1).restored(at(1_250), 1, 2, Refusals::default());
        let debug = format!("{:?}", Event::Gap(gap.clone()));
        assert!(debug.contains("sessions: 1, duration: 1.25s, attempts: 1, epoch: 2"), "{debug}");
        assert!(!debug.contains("Mutex") && !debug.contains("tv_sec"), "{debug}");
        let lagged = |count| Lagged { first_sequence: 7, count };
        for (event, words) in [
            (Event::Gap(gap.clone()), gap.to_string()),
            (Event::Lagged(lagged(1)), "1 notification was dropped: the queue was full".to_owned()),
            (
                Event::Lagged(lagged(2)),
                "2 notifications were dropped: the queue was full".to_owned(),
            ),
        ] {
            assert_eq!(event.to_string(), words);
        }
        assert_eq!(Loss::Gap(gap.clone()).to_string(), gap.to_string());
        assert_eq!(Loss::Lagged(lagged(2)).to_string(), lagged(2).to_string());
    }

    #[test]
    fn unread_gaps_share_one_list_of_refused_channels() {
        let error = || Error::new(ErrorKind::Connect, "lost");
        let refusals = Refusals::default();
        let gap = || {
            let gap = Gap::new(error(), SystemTime::UNIX_EPOCH, 1);
            gap.restored(SystemTime::UNIX_EPOCH, 1, 2, refusals.clone())
        };
        refusals.set(vec![("a".to_owned(), error())]);
        let read = gap();
        assert_eq!(read.refused().len(), 1);
        let unread = [gap(), gap()];
        refusals.set(vec![("b".to_owned(), error()), ("c".to_owned(), error())]);
        let [first, second] = unread.each_ref().map(|gap| gap.refused());
        assert_eq!(first.len(), 2);
        assert!(std::ptr::eq(first, second));
        // A list that was returned does not change.
        assert_eq!(read.refused()[0].0, "a");
    }
}
