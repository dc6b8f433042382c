//! [`Waiter`]: waits for futures, where a call can wait.

use std::cell::Cell;
use std::future::Future;
use std::process;
#[cfg(test)]
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::park;
use crate::error::{Error, ErrorKind};

thread_local! {
    /// This is the background thread of a listener, notifier or connection.
    static IS_BACKGROUND: Cell<bool> = const { Cell::new(false) };
}

/// Marks the current thread as a background thread: no call waits in it.
pub(super) fn mark_background_thread() {
    let _ = IS_BACKGROUND.try_with(|is_background| is_background.set(true));
}

/// Waits for futures of values that belong to one process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiter {
    process_id: u32,
}

impl Waiter {
    pub(super) fn new() -> Self {
        Self { process_id: process_id() }
    }

    /// Checks that a call can wait in this thread.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] in a background thread, and in a process that was forked since.
    pub(super) fn check(self) -> Result<(), Error> {
        if IS_BACKGROUND.try_with(Cell::get).unwrap_or(false) {
            return Err(in_background());
        }
        self.check_process()
    }

    /// Checks that the background thread is in this process.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] in a process that was forked since.
    pub(super) fn check_process(self) -> Result<(), Error> {
        if self.is_in_fork() { Err(forked()) } else { Ok(()) }
    }

    /// Returns whether this process was forked since.
    pub(super) fn is_in_fork(self) -> bool {
        process_id() != self.process_id
    }

    /// Waits for a future.
    ///
    /// # Errors
    /// Those of the future; and as [`check`](Self::check), before the future is polled.
    pub(super) fn wait<T>(
        self,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.check()?;
        park::block_on(future)
    }

    /// Waits for a future until a deadline, if there is one. Returns `None` if it is not ready then.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub(super) fn wait_until<T>(
        self,
        until: Option<Instant>,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Result<Option<T>, Error> {
        self.check()?;
        park::block_until(until, future).transpose()
    }

    /// Does the same for a time. One that is too long for the clock is no limit.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub(super) fn wait_timeout<T>(
        self,
        timeout: Duration,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Result<Option<T>, Error> {
        self.wait_until(deadline(timeout), future)
    }

    /// Waits for an end until a deadline, if there is one. Returns whether it has come. It does not wait where a call cannot.
    pub(super) fn wait_end(self, until: Option<Instant>, end: impl Future<Output = ()>) -> bool {
        let end = async {
            end.await;
            Ok(())
        };
        matches!(self.wait_until(until, end), Ok(Some(())))
    }
}

/// Returns the end of a time that begins now. `None` if it is too long for the clock.
pub(super) fn deadline(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

/// Returns whether this thread is inside of a tokio runtime.
///
/// # Errors
/// [`ErrorKind::Misuse`] in the drop of a thread-local value, when that of tokio is gone: no runtime can be entered any more.
pub(super) fn is_inside_runtime() -> Result<bool, Error> {
    match Handle::try_current() {
        Ok(_) => Ok(true),
        Err(error) if error.is_missing_context() => Ok(false),
        Err(_) => Err(in_last_drops()),
    }
}

#[cold]
fn in_last_drops() -> Error {
    let message =
        "a blocking call in the drop of a thread-local value, where tokio cannot be used any more";
    let hint = "make the call before the end of the thread";
    Error::new(ErrorKind::Misuse, message).with_hint(hint)
}

#[cold]
fn in_background() -> Error {
    let message = "a blocking call in a background thread of pgbell, which would wait for itself or stop its listener";
    let hint = "make the call in another thread, for example with std::thread::spawn";
    Error::new(ErrorKind::Misuse, message).with_hint(hint)
}

#[cold]
fn forked() -> Error {
    let message = "the process was forked, and the background thread is only in its parent";
    Error::new(ErrorKind::Misuse, message).with_hint("connect again in the child process")
}

#[cfg(not(test))]
fn process_id() -> u32 {
    process::id()
}

/// How often this process counts as forked.
#[cfg(test)]
static FORKS: AtomicU32 = AtomicU32::new(0);

#[cfg(test)]
fn process_id() -> u32 {
    process::id().wrapping_add(FORKS.load(Ordering::Relaxed))
}

/// From now on, this process counts as a forked child of what it was. So only in a process of its own.
#[cfg(test)]
pub(super) fn fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
impl Waiter {
    /// Returns the waiter of a process that was forked from another one.
    pub(super) fn of_parent() -> Self {
        Self { process_id: process_id().wrapping_sub(1) }
    }
}
