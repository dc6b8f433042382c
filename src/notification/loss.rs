//! What is missing, and where.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use super::Notification;
use crate::Error;

/// Here the server may have sent notifications that could not be received.
///
/// The session was lost, or the server said that it dropped one. How many they were, nobody knows:
/// PostgreSQL keeps none. It comes after every channel is listened to again (or refused) and before any
/// later notification: state that is read on it is complete.
#[derive(Clone)]
pub struct Gap(
    // A pointer: gaps are rare, and must not make every `Event` larger.
    Box<Facts>,
);

#[derive(Clone)]
struct Facts {
    cause: Error,
    lost_at: SystemTime,
    restored_at: SystemTime,
    attempts: u32,
    epoch: u32,
    sessions: u32,
    refusals: Refusals,
    /// As it was when it was first asked for.
    refused: OnceLock<Refused>,
}

/// Channels and why they are refused.
type Refused = Arc<[(String, Error)]>;

/// The channels that a listener's server refuses: one list, however many gaps wait to be read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusals(Arc<Mutex<Refused>>);

impl Refusals {
    /// Every wanted channel but these is active.
    pub(crate) fn set(&self, refused: Vec<(String, Error)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = refused.into();
    }

    fn get(&self) -> Refused {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Gap {
    /// A loss that is not over: `sessions` were lost. What it took to come back is unknown yet.
    pub(crate) fn new(cause: Error, lost_at: SystemTime, sessions: u32) -> Self {
        let mut gap = Self::within_session(cause, lost_at, 0);
        gap.0.sessions = sessions;
        gap
    }

    /// It is over: since when, after how many attempts, and what is not as it was.
    pub(crate) fn restored(
        mut self,
        at: SystemTime,
        attempts: u32,
        epoch: u32,
        refusals: Refusals,
    ) -> Self {
        let facts = &mut self.0;
        (facts.restored_at, facts.attempts, facts.epoch, facts.refusals) =
            (at, attempts, epoch, refusals);
        self
    }

    /// Another session goes on after it than was said before.
    pub(crate) fn goes_on_with(&mut self, epoch: u32) {
        self.0.epoch = epoch;
    }

    /// A gap in a session that goes on: the server says that it dropped something.
    pub(crate) fn within_session(cause: Error, at: SystemTime, epoch: u32) -> Self {
        Self(Box::new(Facts {
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

    /// Takes in a later gap: nothing was delivered between the two.
    pub fn merge(&mut self, later: Self) {
        let (facts, later) = (&mut self.0, later.0);
        facts.restored_at = later.restored_at;
        facts.attempts = facts.attempts.saturating_add(later.attempts);
        facts.epoch = later.epoch;
        facts.sessions = facts.sessions.saturating_add(later.sessions);
        (facts.refusals, facts.refused) = (later.refusals, later.refused);
    }

    /// Takes in a later gap though something was delivered between the two: this one stays where it is, and what was
    /// delivered behind it belongs to the session that it names already.
    #[allow(dead_code, reason = "a build without sockets has no queue")]
    pub(crate) fn absorb(&mut self, later: Self) {
        let epoch = self.0.epoch;
        self.merge(later);
        self.0.epoch = epoch;
    }

    /// Why: the first cause, when several gaps were merged.
    #[must_use]
    pub fn cause(&self) -> &Error {
        &self.0.cause
    }

    /// When it was noticed that notifications may be missing.
    #[must_use]
    pub fn lost_at(&self) -> SystemTime {
        self.0.lost_at
    }

    /// When every channel was listened to again, or, if that did not come to be, when the listener ended.
    #[must_use]
    pub fn restored_at(&self) -> SystemTime {
        self.0.restored_at
    }

    /// How many attempts to connect it took.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Number of the session that goes on after the gap: the [`epoch`](Notification::epoch) of the next notification
    /// that is delivered. All later ones have this number or a higher one.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.0.epoch
    }

    /// How many sessions were lost. Zero when the server dropped a notification in a session that
    /// goes on.
    #[must_use]
    pub fn sessions(&self) -> u32 {
        self.0.sessions
    }

    /// From the loss to the end of it. Zero where the clock went back meanwhile.
    fn lasted(&self) -> Duration {
        self.0.restored_at.duration_since(self.0.lost_at).unwrap_or_default()
    }

    /// Channels that the server refuses, with its reason: as of the last gap that was told before this is first
    /// called. However many gaps wait to be read, they share one list.
    #[must_use]
    pub fn refused(&self) -> &[(String, Error)] {
        self.0.refused.get_or_init(|| self.0.refusals.get())
    }
}

impl fmt::Debug for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { cause, attempts, sessions, epoch, .. } = &*self.0;
        f.debug_struct("Gap")
            .field("cause", cause)
            .field("sessions", sessions)
            .field("lasted", &self.lasted())
            .field("attempts", attempts)
            .field("epoch", epoch)
            .field("refused", &self.refused().len())
            .finish_non_exhaustive()
    }
}

/// One line: the cause, how many sessions were lost, for how long, and how many channels are refused.
impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { cause, attempts, sessions, .. } = &*self.0;
        write!(f, "notifications may be missing here: {cause:#} (")?;
        match sessions {
            0 => f.write_str("no session was lost")?,
            1 => f.write_str("1 session lost")?,
            more => write!(f, "{more} sessions lost")?,
        }
        if *sessions > 0 {
            let plural = if *attempts == 1 { "" } else { "s" };
            write!(f, ", for {:.1} s, {attempts} attempt{plural}", self.lasted().as_secs_f64())?;
        }
        match self.refused().len() {
            0 => f.write_str(")"),
            1 => f.write_str(", 1 channel refused)"),
            more => write!(f, ", {more} channels refused)"),
        }
    }
}

/// We had these notifications, and the queue of this consumer was full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lagged {
    pub(crate) first_sequence: u64,
    pub(crate) count: u64,
}

impl Lagged {
    /// How many were dropped. Exact.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// [`sequence`](Notification::sequence) of the first of them.
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

/// What is missing before the notifications of a [`Batch`](super::Batch).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Loss {
    /// The server may have sent what could not be received.
    Gap(Gap),
    /// The queue dropped a counted number.
    Lagged(Lagged),
}

/// As the gap or the lag that it is.
impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap(gap) => gap.fmt(f),
            Self::Lagged(lagged) => lagged.fmt(f),
        }
    }
}

/// What a listener receives, one at a time.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A notification.
    Notification(Notification),
    /// Here the server may have sent what could not be received.
    Gap(Gap),
    /// Here the queue dropped a counted number.
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

/// One line, without the payload: it is the application's data.
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
    use crate::ErrorKind;

    #[test]
    fn a_line_of_the_log_says_what_a_gap_was() {
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
    fn a_gap_can_be_read_by_a_person_in_every_form() {
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let cause = Error::new(ErrorKind::Connect, "lost");
        let gap = Gap::new(cause, at(0), 1).restored(at(1_250), 1, 2, Refusals::default());
        let debug = format!("{:?}", Event::Gap(gap.clone()));
        assert!(debug.contains("sessions: 1, lasted: 1.25s, attempts: 1, epoch: 2"), "{debug}");
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
    fn gaps_that_wait_to_be_read_share_one_list_of_refused_channels() {
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
        // What was told stays as it was.
        assert_eq!(read.refused()[0].0, "a");
    }
}
