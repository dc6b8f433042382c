//! [`Polls`]: what wakes a mirror without a call of the user.

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::machine::{Machine, after};
use crate::error::Error;
use crate::net;
use crate::wakeups::{Wake, WakeWorker};

#[derive(Debug)]
pub(super) struct Polls {
    worker: WakeWorker,
    interval: Duration,
    /// When all rows are read next, after the end of the wake-ups of the user.
    next: Option<Instant>,
}

/// The answer of the worker.
type Answer = Result<Wake, Error>;

impl Polls {
    pub(super) fn new(worker: WakeWorker, interval: Duration) -> Self {
        Self { worker, interval, next: None }
    }

    /// Returns the time of the next poll that no wake-up reports.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Waits for a wake-up. After the end of the wake-ups, for ever.
    ///
    /// Dropping the future loses nothing.
    pub(super) async fn wake(&self) -> Answer {
        match self.next {
            None => self.worker.wake().await,
            Some(_) => pending().await,
        }
    }

    /// Returns a wake-up that has happened, without waiting.
    pub(super) async fn taken(&self) -> Option<Answer> {
        let mut wake = pin!(self.wake());
        poll_fn(|cx| {
            Poll::Ready(match wake.as_mut().poll(cx) {
                Poll::Ready(answer) => Some(answer),
                Poll::Pending => None,
            })
        })
        .await
    }

    pub(super) fn handle_wake(&mut self, answer: &Answer, machine: &mut Machine) {
        let now = net::now();
        match answer {
            Ok(wake) => machine.handle_wake(wake, now),
            // The wake-ups of the user are closed.
            Err(_) => self.poll(now, machine),
        }
    }

    /// Time has passed.
    pub(super) fn handle_time(&mut self, machine: &mut Machine) {
        let now = net::now();
        if self.next.is_some_and(|next| next <= now) {
            self.poll(now, machine);
        }
    }

    fn poll(&mut self, now: Instant, machine: &mut Machine) {
        machine.handle_poll(now);
        self.next = Some(after(now, self.interval));
    }
}
