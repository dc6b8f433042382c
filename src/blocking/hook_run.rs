//! [`HookRun`]: the run of a hook, as its connection uses it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use tokio::runtime::Handle;

use super::waiter::Waiter;
use crate::error::{Error, ErrorKind};

/// The run of a hook, in the runtime of its listener.
#[derive(Debug)]
pub(super) struct HookRun {
    runtime: Handle,
    waiter: Waiter,
    state: SharedState,
}

/// Ends the run when it is dropped: in the runtime, before that ends.
#[derive(Debug)]
pub(super) struct RunEnd(SharedState);

/// Locked while a call is polled. So the end waits for the poll, and the runtime for the end: a poll in a runtime that has ended would panic.
#[derive(Debug, Clone, Default)]
struct SharedState(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    has_ended: bool,
    /// The waker of the call that waits.
    waker: Option<Waker>,
}

impl SharedState {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HookRun {
    /// Begins a run in the current runtime.
    pub(super) fn begin(waiter: Waiter) -> (Self, RunEnd) {
        let state = SharedState::default();
        let run = Self { runtime: Handle::current(), waiter, state: state.clone() };
        (run, RunEnd(state))
    }

    pub(super) fn waiter(&self) -> Waiter {
        self.waiter
    }

    /// Waits for a future that uses the connection of the run, or for the end of the run.
    pub(super) fn run<T>(
        &mut self,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        // Before `enter`: after a fork nothing of the runtime is touched.
        self.waiter.check()?;
        let _inside = self.runtime.enter();
        let mut future = pin!(future);
        self.waiter.wait(poll_fn(|cx| {
            let mut state = self.state.lock();
            if state.has_ended {
                return Poll::Ready(Err(ended()));
            }
            state.waker = Some(cx.waker().clone());
            future.as_mut().poll(cx)
        }))
    }
}

impl Drop for RunEnd {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.has_ended = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cold]
fn ended() -> Error {
    Error::new(ErrorKind::Closed, "the run of the hook has ended")
}
