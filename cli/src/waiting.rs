//! Lines on stderr while the server cannot be reached at the start.

use std::sync::{Mutex, PoisonError};

use pgbell::Error;

use crate::console;

/// Of the attempts that fail for one reason, the first one is reported, and then one of every so many.
const REPORT_EVERY_ATTEMPTS: u32 = 10;

/// The reason of the last failed attempt, and how many attempts in a row have failed for it.
#[derive(Default)]
pub(crate) struct Waiting(Mutex<(String, u32)>);

impl Waiting {
    /// Reports an attempt that failed and that is followed by another one.
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
        (*count % REPORT_EVERY_ATTEMPTS == 1)
            .then(|| format!("pgbell: cannot connect: {reason}; trying again"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_reported_when_it_changes_and_at_each_tenth_attempt_after() {
        let waiting = Waiting::default();
        let reports = |reason: &str, attempts: usize| {
            (0..attempts).filter(|_| waiting.line(reason).is_some()).count()
        };
        assert_eq!(
            (reports("refused", 10), reports("refused", 1), reports("refused", 9)),
            (1, 1, 0)
        );
        assert_eq!((reports("starting up", 1), reports("refused", 1)), (1, 1));
        assert_eq!(
            waiting.line("no route"),
            Some("pgbell: cannot connect: no route; trying again".to_owned())
        );
    }
}
