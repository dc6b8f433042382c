//! [`Reactor`]: drives the socket of a connection.
//!
//! ```text
//! Caller ── first call inside of a tokio runtime ─▶ Background      HookRun: that of the hook's listener
//! ```

use std::future::Future;
use std::mem;
use std::sync::Arc;

use super::background::Background;
use super::hook_run::HookRun;
use super::runtime::OwnedRuntime;
use super::waiter::{Waiter, is_inside_runtime};
use crate::error::Error;

/// What drives the socket of a connection.
#[derive(Debug)]
pub(super) enum Reactor {
    /// The thread that calls, during the call: no other thread must be woken.
    Caller(Arc<OwnedRuntime>, Waiter),
    /// A thread of its own. A thread of one runtime cannot drive another one.
    Background(Background),
    /// The background thread of the listener in whose hook the connection is used.
    HookRun(HookRun),
}

impl Reactor {
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self::Caller(Arc::new(OwnedRuntime::new()?), Waiter::new()))
    }

    /// Waits for a future that uses the connection.
    pub(super) fn run<T>(
        &mut self,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        if let Self::Caller(runtime, waiter) = self {
            waiter.check()?;
            if is_inside_runtime()? {
                // If no thread can be started, the connection stays as it is: outside of a runtime it can be used.
                *self = Self::Background(Background::drive(runtime.clone())?);
            }
        }
        match self {
            Self::Caller(runtime, _) => runtime.block_on(future),
            Self::Background(background) => background.run(future),
            Self::HookRun(hook) => hook.run(future),
        }
    }

    pub(super) fn waiter(&self) -> Waiter {
        match self {
            Self::Caller(_, waiter) => *waiter,
            Self::Background(background) => background.waiter(),
            Self::HookRun(hook) => hook.waiter(),
        }
    }

    /// Keeps the runtime until the end of the process.
    pub(super) fn keep_runtime(&self) {
        if let Self::Caller(runtime, _) = self {
            mem::forget(runtime.clone());
        }
    }
}
