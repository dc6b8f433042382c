//! [`Reactor`]: drives the socket of a connection.
//!
//! ```text
//! Caller ── first call inside of a tokio runtime ─▶ Background      HookRun: that of the hook's listener
//! ```

use std::future::{Future, poll_fn};
use std::mem;
use std::pin::pin;
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::background::Background;
use super::runtime::OwnedRuntime;
use super::waiter::Waiter;
use crate::error::{Error, ErrorKind};

/// What drives the socket of a connection.
#[derive(Debug)]
pub(super) enum Reactor {
    /// The thread that calls, during the call: no other thread must be woken.
    Caller(OwnedRuntime, Waiter),
    /// A thread of its own. A thread of one runtime cannot drive another one.
    Background(Background),
    /// The background thread of the listener in whose hook the connection is used.
    HookRun(HookRun),
    /// No background thread could be started.
    Lost,
}

impl Reactor {
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self::Caller(OwnedRuntime::new()?, Waiter::new()))
    }

    /// Waits for a future that uses the connection.
    pub(super) fn run<T>(
        &mut self,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        if let Self::Caller(_, waiter) = self {
            waiter.check()?;
            if Handle::try_current().is_ok() {
                self.move_to_background()?;
            }
        }
        match self {
            Self::Caller(runtime, _) => runtime.block_on(future).unwrap_or_else(|| Err(lost())),
            Self::Background(background) => background.run(future),
            Self::HookRun(hook) => hook.run(future),
            Self::Lost => Err(lost()),
        }
    }

    fn move_to_background(&mut self) -> Result<(), Error> {
        match mem::replace(self, Self::Lost) {
            Self::Caller(runtime, _) => *self = Self::Background(Background::drive(runtime)?),
            other => *self = other,
        }
        Ok(())
    }
}

#[cold]
fn lost() -> Error {
    Error::new(ErrorKind::Closed, "no background thread could be started for the connection")
}

/// The run of a hook, as its connection uses it.
#[derive(Debug)]
pub(super) struct HookRun {
    pub(super) runtime: Handle,
    pub(super) waiter: Waiter,
    /// Its sender is dropped when the run has ended or is cancelled.
    pub(super) is_running: watch::Receiver<()>,
}

impl HookRun {
    fn run<T>(&mut self, future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.waiter.check()?;
        let _inside = self.runtime.enter();
        let mut future = pin!(future);
        let mut end = pin!(self.is_running.changed());
        self.waiter.wait(poll_fn(|cx| {
            // First, because the runtime may end after the run.
            if end.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Error::new(
                    ErrorKind::Closed,
                    "the run of the hook has ended",
                )));
            }
            future.as_mut().poll(cx)
        }))
    }
}
