//! What is missing, and where.

use std::fmt;
use std::time::SystemTime;

use super::Notification;
use crate::Error;

/// Here the server may have sent notifications that could not be received.
///
/// The session was lost, or the server said that it dropped one. How many they were, nobody knows:
/// PostgreSQL keeps none. It comes after every channel is listened to again (or refused) and before any
/// later notification: state that is read on it is complete.
#[derive(Debug, Clone)]
pub struct Gap(
    // A pointer: gaps are rare, and must not make every `Event` larger.
    Box<Facts>,
);

#[derive(Debug, Clone)]
struct Facts {
    cause: Error,
    lost_at: SystemTime,
    restored_at: SystemTime,
    attempts: u32,
    epoch: u32,
    sessions: u32,
    refused: Vec<(String, Error)>,
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
        refused: Vec<(String, Error)>,
    ) -> Self {
        let facts = &mut self.0;
        (facts.restored_at, facts.attempts, facts.epoch, facts.refused) =
            (at, attempts, epoch, refused);
        self
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
            refused: Vec::new(),
        }))
    }

    /// Takes in a later gap: nothing was delivered between the two.
    pub fn merge(&mut self, later: Self) {
        let (facts, later) = (&mut self.0, later.0);
        facts.restored_at = later.restored_at;
        facts.attempts = facts.attempts.saturating_add(later.attempts);
        facts.epoch = later.epoch;
        facts.sessions = facts.sessions.saturating_add(later.sessions);
        facts.refused = later.refused;
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

    /// When every channel was listened to again.
    #[must_use]
    pub fn restored_at(&self) -> SystemTime {
        self.0.restored_at
    }

    /// How many attempts to connect it took.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Number of the session that goes on after the gap.
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

    /// Channels that the server refuses now, with its reason.
    #[must_use]
    pub fn refused(&self) -> &[(String, Error)] {
        &self.0.refused
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "notifications may be missing here: {}", self.0.cause)
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
        write!(f, "{} notifications were dropped: the queue was full", self.count)
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

impl From<Loss> for Event {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::Gap(gap) => Self::Gap(gap),
            Loss::Lagged(lagged) => Self::Lagged(lagged),
        }
    }
}
