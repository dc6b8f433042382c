//! [`OwnedRuntime`]: a runtime with one thread, which can be dropped anywhere.

use std::future::Future;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::{Error, ErrorKind};

/// The name of the background threads, and of those in which the runtime resolves names and reads files.
pub(super) const THREAD_NAME: &str = "pgbell";

/// A runtime with sockets and timers, whose tasks run in the thread that drives it.
///
/// The drop of a [`Runtime`] panics in a task of another one, because it waits for name lookups and the like. This one does not wait.
#[derive(Debug)]
pub(super) struct OwnedRuntime {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl OwnedRuntime {
    pub(super) fn new() -> Result<Self, Error> {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_all().thread_name(THREAD_NAME).build().map_err(|error| {
            Error::caused(ErrorKind::Connect, "the runtime cannot be started", error)
        })?;
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Some(runtime), handle })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Drives the runtime until a future is ready. The current thread must be in no runtime.
    pub(super) fn block_on<T>(
        &self,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        match &self.runtime {
            Some(runtime) => runtime.block_on(future),
            None => Err(Error::new(ErrorKind::Closed, "the runtime has ended")),
        }
    }
}

impl Drop for OwnedRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
