//! [`Background`]: the thread that drives the runtime of a listener, a notifier or a connection.
//!
//! ```text
//! started ── end, drop ─▶ task is ended: Terminate is sent ─▶ runtime is dropped ─▶ ended
//!                         └── at most `close_timeout` or `answer_timeout` + 1 s ──┘
//! ```

use std::future::Future;
use std::mem;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::runtime::{OwnedRuntime, THREAD_NAME};
use super::waiter::{Waiter, deadline, is_inside_runtime, mark_background_thread};
use crate::error::{Error, ErrorKind, contain};
use crate::listener::ListenerHandle;
use crate::notifier::Notifier;

/// The longest time that a drop waits for the end of the thread.
pub(super) const DROP_TIMEOUT: Duration = Duration::from_secs(1);

/// How much longer than its own timeouts a close waits, because code of the application may block the thread.
pub(super) const BLOCKED_TIMEOUT: Duration = Duration::from_secs(1);

/// The task that the thread ends before it ends itself.
#[derive(Debug)]
pub(super) enum BackgroundTask {
    Listener(ListenerHandle),
    Notifier(Notifier),
}

impl BackgroundTask {
    async fn end(self) {
        match self {
            Self::Listener(handle) => handle.close().await,
            Self::Notifier(notifier) => notifier.close().await,
        }
    }
}

/// A thread that drives a runtime until this value is dropped.
#[derive(Debug)]
pub(super) struct Background {
    runtime: Handle,
    waiter: Waiter,
    task: Option<BackgroundTask>,
    /// `None` after the end was requested.
    stop: Option<oneshot::Sender<BackgroundTask>>,
    /// Its sender is dropped at the end of the thread.
    ended: oneshot::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts the thread, with a runtime of its own.
    pub(super) fn start() -> Result<Self, Error> {
        Self::drive(Arc::new(OwnedRuntime::new()?))
    }

    /// Starts a thread that drives this runtime. The caller must drop its own reference then: the end of the thread is to be that of the
    /// runtime.
    pub(super) fn drive(runtime: Arc<OwnedRuntime>) -> Result<Self, Error> {
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let (ends, ended) = oneshot::channel::<()>();
        let run = move || {
            mark_background_thread();
            // A panic here would only be a bug of this crate. It ends the runtime, and with it every call that waits.
            let _ = contain(|| drive(&runtime, stopped));
            // Ends the tasks: the sessions are closed when the end is signalled.
            drop(runtime);
            drop(ends);
        };
        let thread = thread::Builder::new().name(THREAD_NAME.to_owned());
        let thread = thread.spawn(run).map_err(|error| {
            Error::caused(ErrorKind::Connect, "no background thread can be started", error)
        })?;
        Ok(Self {
            runtime: handle,
            waiter: Waiter::new(),
            task: None,
            stop: Some(stop),
            ended,
            thread: Some(thread),
        })
    }

    pub(super) fn waiter(&self) -> Waiter {
        self.waiter
    }

    /// Sets the task that is ended before the thread ends.
    pub(super) fn set_task(&mut self, task: BackgroundTask) {
        self.task = Some(task);
    }

    /// Polls a future in the thread of the caller, with the sockets and timers of this runtime.
    pub(super) fn run<T>(
        &self,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        // Before `enter`: after a fork nothing of the runtime is touched.
        self.waiter.check()?;
        is_inside_runtime()?;
        let _inside = self.runtime.enter();
        self.waiter.wait(future)
    }

    /// Ends the task and the thread, and waits for that: without a deadline, as long as the task takes to end.
    ///
    /// Where a call cannot wait, the thread ends by itself. After a fork there is none.
    pub(super) fn end(&mut self, until: Option<Instant>) {
        if self.waiter.is_in_fork() {
            return;
        }
        self.request_end();
        let ended = &mut self.ended;
        let has_ended = self.waiter.wait_end(until, async {
            let _ = ended.await;
        });
        if let Some(thread) = self.thread.take()
            && has_ended
        {
            let _ = thread.join();
        }
    }

    fn request_end(&mut self) {
        // Without a task, the drop of the sender ends the thread.
        if let Some(stop) = self.stop.take()
            && let Some(task) = self.task.take()
        {
            let _ = stop.send(task);
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if self.waiter.is_in_fork() {
            // There is no thread, and a new one of this process may have the same handle: it must not be detached. What wakes the thread
            // writes to file descriptors that are shared with the parent.
            mem::forget((self.thread.take(), self.stop.take(), self.task.take()));
            return;
        }
        if self.stop.is_none() {
            return;
        }
        // An executor must not wait for a drop. The same where nothing can be asked for a runtime: in the drop of a thread-local value.
        match Handle::try_current() {
            Err(error) if error.is_missing_context() => {
                self.end(deadline(DROP_TIMEOUT));
            }
            _ => self.request_end(),
        }
    }
}

fn drive(runtime: &OwnedRuntime, stopped: oneshot::Receiver<BackgroundTask>) {
    let _ = runtime.block_on(async {
        if let Ok(task) = stopped.await {
            task.end().await;
        }
        Ok(())
    });
}

#[cfg(test)]
impl Background {
    /// Makes it that of a parent process.
    pub(super) fn after_fork(&mut self) {
        self.waiter = Waiter::of_parent();
    }
}
