//! [`Waiter`]: a call that waits for the end of a read.

use std::collections::BTreeSet;

use tokio::sync::oneshot;

use crate::error::{Error, contain};

#[derive(Debug)]
pub(super) struct Waiter {
    /// The keys that it has asked for. `None`: all rows.
    keys: Option<BTreeSet<String>>,
    sender: oneshot::Sender<Result<(), Error>>,
}

impl Waiter {
    pub(super) fn new(
        keys: Option<BTreeSet<String>>,
        sender: oneshot::Sender<Result<(), Error>>,
    ) -> Self {
        Self { keys, sender }
    }

    /// Returns whether its future was dropped.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Returns whether a read of these keys has read what it has asked for. `None`: a read of all rows.
    pub(super) fn is_answered_by(&self, read: Option<&BTreeSet<String>>) -> bool {
        match (&self.keys, read) {
            (_, None) => true,
            (Some(keys), Some(read)) => keys.is_subset(read),
            (None, Some(_)) => false,
        }
    }
}

/// Answers calls.
pub(super) fn answer(waiters: impl IntoIterator<Item = Waiter>, result: &Result<(), Error>) {
    for waiter in waiters {
        let _ = contain(|| waiter.sender.send(result.clone()));
    }
}
