//! Lines on stderr while the server cannot be reached at the start.

use std::sync::{Mutex, PoisonError};

use pgbell::Error;

use crate::console;

/// Of the attempts that fail for the same reason, the first is reported, and then one of this many.
const TELL_EVERY: u32 = 10;

/// Why the last attempt failed, and how many in a row have for that reason.
#[derive(Default)]
pub(crate) struct Waiting(Mutex<(String, u32)>);

impl Waiting {
    /// An attempt has failed, and another one follows.
    pub(crate) fn failed(&self, error: &Error) {
        if let Some(line) = self.line(&format!("{error:#}")) {
            console::line(&line);
        }
    }

    fn line(&self, reason: &str) -> Option<String> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, count) = &mut *last;
        if before != reason {
            (*before, *count) = (reason.to_owned(), 0);
        }
        *count = count.saturating_add(1);
        (*count % TELL_EVERY == 1)
            .then(|| format!("pgbell: cannot connect: {reason}; trying again"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_when_it_changes_and_at_each_tenth_attempt_after() {
        let waiting = Waiting::default();
        let told = |reason: &str, attempts: usize| {
            (0..attempts).filter(|_| waiting.line(reason).is_some()).count()
        };
        assert_eq!((told("refused", 10), told("refused", 1), told("refused", 9)), (1, 1, 0));
        assert_eq!((told("starting up", 1), told("refused", 1)), (1, 1));
        assert_eq!(
            waiting.line("no route"),
            Some("pgbell: cannot connect: no route; trying again".to_owned())
        );
    }
}
