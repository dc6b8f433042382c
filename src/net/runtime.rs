//! What is used of the tokio runtime: its clock, a timer for one deadline, and the check that there is one.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::proto::session::READ_DELAY_MAX;

/// Panics with tokio's own message if there is no current runtime, or if it has no timers or no I/O: in the call
/// of the user, and not later in a task of this crate. Tokio has no other way to check.
#[track_caller]
pub(crate) fn check_runtime() {
    drop(tokio::time::sleep(Duration::ZERO));
    // Registers an unbound socket. If there is no free socket, the attempt to connect returns the error.
    #[cfg(unix)]
    drop(tokio::net::UnixDatagram::unbound());
    #[cfg(not(unix))]
    if let Ok(socket) = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)) {
        if socket.set_nonblocking(true).is_ok() {
            drop(tokio::net::UdpSocket::from_std(socket));
        }
    }
}

/// Returns the time of the runtime's monotonic clock, which a test can pause.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns the longest delay of reads for a limit of the user: a tick of the timer, or zero if the limit is shorter.
pub(crate) fn whole_ticks(limit: Duration) -> Duration {
    if limit < READ_DELAY_MAX { Duration::ZERO } else { READ_DELAY_MAX }
}

/// A timer for a deadline that can change. It allocates once.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    set: Option<Instant>,
}

/// Whether the next read of a socket waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadWait {
    /// It does not wait.
    None,
    /// It waits. The task is woken when the delay is over.
    Pending,
    /// It has waited, and the delay is over.
    Over,
}

impl Timer {
    /// Returns whether `deadline` has passed. If not, the task is woken when it does. The first call creates the timer in the
    /// current runtime.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> bool {
        let Some(deadline) = deadline else {
            self.set = None;
            return false;
        };
        if deadline <= now() {
            return true;
        }
        let sleep =
            self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        if self.set != Some(deadline) {
            sleep.as_mut().reset(deadline.into());
            self.set = Some(deadline);
        }
        sleep.as_mut().poll(cx).is_ready()
    }

    /// Waits until `until` at most. There is no wait if that time has passed at the first call with it.
    ///
    /// The runtime's timer rounds up to whole milliseconds. A delay of a millisecond would therefore take up to two. So it ends
    /// with the next tick of that timer, up to a millisecond before `until`.
    pub(crate) fn poll_tick(&mut self, cx: &mut Context<'_>, until: Instant) -> ReadWait {
        let now = now();
        let has_begun = self.set == Some(until);
        let is_over = if until <= now {
            true
        } else {
            let next = tokio::time::Instant::from_std(now + Duration::from_nanos(1));
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
            if !has_begun {
                sleep.as_mut().reset(next);
                self.set = Some(until);
            }
            sleep.as_mut().poll(cx).is_ready()
        };
        match is_over {
            false => ReadWait::Pending,
            true => {
                self.set = None;
                if has_begun { ReadWait::Over } else { ReadWait::None }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    async fn poll(timer: &mut Timer, until: Instant) -> ReadWait {
        poll_fn(|cx| Poll::Ready(timer.poll_tick(cx, until))).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_ends_with_the_next_tick() {
        let mut timer = Timer::default();
        for _ in 0..100 {
            let begin = now();
            let until = begin + READ_DELAY_MAX;
            assert_eq!(poll(&mut timer, until).await, ReadWait::Pending);
            let end = poll_fn(|cx| match timer.poll_tick(cx, until) {
                ReadWait::Pending => Poll::Pending,
                end => Poll::Ready(end),
            });
            assert_eq!(end.await, ReadWait::Over);
            assert!(now() <= until);
            tokio::time::sleep(Duration::from_micros(1_300)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_comes_too_late_for_its_delay_has_not_waited() {
        let mut timer = Timer::default();
        let until = now() + READ_DELAY_MAX;
        tokio::time::advance(LONG).await;
        assert_eq!(poll(&mut timer, until).await, ReadWait::None);
        // One that has begun to wait is over, however late.
        let until = now() + READ_DELAY_MAX;
        assert_eq!(poll(&mut timer, until).await, ReadWait::Pending);
        tokio::time::advance(LONG).await;
        assert_eq!(poll(&mut timer, until).await, ReadWait::Over);
    }
}
