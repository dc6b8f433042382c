//! [`Lookahead`]: when the next hidden message of the queue becomes visible, as far as the server was asked.

use std::time::{Duration, Instant};

/// The least time between two questions.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// The time between two questions, in times of what the last one took: they use at most a twentieth of the session.
const INTERVAL_FACTOR: u32 = 20;

/// A message is hidden by its delay, or by the visibility timeout of a consumer that may have crashed. No notification is sent when it becomes visible:
/// after a read that has found all there was, the server is asked for that time.
#[derive(Debug, Default)]
pub(super) struct Lookahead {
    /// When the last read was sent, if the server is to be asked after it.
    read_at: Option<Instant>,
    /// No question is sent before.
    not_before: Option<Instant>,
    visible_at: Option<Instant>,
}

impl Lookahead {
    /// Handles a read that has found all messages that were visible.
    pub(super) fn handle_read(&mut self, sent: Instant) {
        self.read_at = Some(sent);
        self.visible_at = None;
    }

    /// Returns whether a question is due: the time that has passed since the last read. A message that became visible within it was not read.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Duration> {
        self.not_before.take_if(|at| *at <= now);
        if self.not_before.is_some() {
            return None;
        }
        self.read_at.take().map(|at| now.saturating_duration_since(at))
    }

    /// Handles an answer: the time that is left, none if no message is hidden.
    pub(super) fn handle_answer(&mut self, sent: Instant, now: Instant, left: Option<Duration>) {
        // Not from when the question was sent: the server has counted from a later time.
        self.visible_at = left.and_then(|left| now.checked_add(left));
        self.handle_asked(sent, now);
    }

    /// Handles the end of a question, also without an answer.
    pub(super) fn handle_asked(&mut self, sent: Instant, now: Instant) {
        let pause = now.saturating_duration_since(sent).saturating_mul(INTERVAL_FACTOR);
        self.not_before = now.checked_add(pause.max(INTERVAL_MIN));
    }

    /// Returns whether a message has become visible.
    pub(super) fn take_visible(&mut self, now: Instant) -> bool {
        self.visible_at.take_if(|at| *at <= now).is_some()
    }

    /// Returns when a question is due, or a message becomes visible.
    pub(super) fn next_time(&self) -> Option<Instant> {
        let asks_at = self.read_at.map(|at| self.not_before.unwrap_or(at));
        asks_at.into_iter().chain(self.visible_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_server_is_asked_after_a_read_and_at_most_once_in_a_second() {
        let (now, mut lookahead) = (Instant::now(), Lookahead::default());
        assert_eq!((lookahead.next_time(), lookahead.poll(now)), (None, None));
        lookahead.handle_read(now);
        assert_eq!(lookahead.next_time(), Some(now));
        assert_eq!(lookahead.poll(now + SECOND / 4), Some(SECOND / 4));
        assert_eq!(lookahead.poll(now + SECOND / 4), None);
        lookahead.handle_answer(now, now, None);
        assert_eq!(lookahead.next_time(), None);
        lookahead.handle_read(now + SECOND / 2);
        assert_eq!(lookahead.next_time(), Some(now + SECOND));
        assert_eq!(lookahead.poll(now + SECOND / 2), None);
        assert_eq!(lookahead.poll(now + SECOND), Some(SECOND / 2));
    }

    #[test]
    fn a_question_that_takes_long_is_followed_by_a_longer_pause() {
        let (now, mut lookahead) = (Instant::now(), Lookahead::default());
        lookahead.handle_asked(now, now + SECOND);
        lookahead.handle_read(now + SECOND);
        assert_eq!(lookahead.next_time(), Some(now + 21 * SECOND));
        assert_eq!(lookahead.poll(now + 20 * SECOND), None);
        assert_eq!(lookahead.poll(now + 21 * SECOND), Some(20 * SECOND));
    }

    #[test]
    fn a_message_becomes_visible_once() {
        let (now, mut lookahead) = (Instant::now(), Lookahead::default());
        lookahead.handle_answer(now, now + SECOND, Some(4 * SECOND));
        assert_eq!(lookahead.next_time(), Some(now + 5 * SECOND));
        assert!(!lookahead.take_visible(now + 4 * SECOND));
        assert!(lookahead.take_visible(now + 5 * SECOND));
        assert!(!lookahead.take_visible(now + 5 * SECOND));
        // What a read has found is not waited for.
        lookahead.handle_answer(now, now, Some(SECOND));
        lookahead.handle_read(now);
        assert!(!lookahead.take_visible(now + SECOND));
        lookahead.handle_answer(now, now, Some(Duration::MAX));
        assert!(!lookahead.take_visible(now + SECOND));
    }
}
