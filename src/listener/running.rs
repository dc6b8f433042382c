//! [`RunningTask`]: a task that was started, and its handle.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::environment::TokioEnvironment;
use super::guarded::Guarded;
use super::handle::ListenerHandle;
use super::hook::Hook;
use super::shared::ListenerShared;
use super::task::ListenerTask;
use super::telemetry::Telemetry;
use crate::config::Config;
use crate::error::Error;
use crate::net;
use crate::proto::supervisor::{Policy, Sink, Supervisor};
use crate::queue::ReceiveBuffers;

/// What is needed to start a task: its settings were checked.
pub(crate) struct Prepared {
    pub(super) config: Config,
    /// The configuration with everything that was read from the environment and from files.
    pub(super) resolved: Config,
    pub(super) connect_timeout: Duration,
    pub(super) policy: Policy,
    pub(super) hook: Option<Hook>,
}

impl Prepared {
    /// Starts a task that puts notifications into `sink`, and waits until every channel is active and the first run of the hook has
    /// succeeded. If the future is dropped, the task ends.
    pub(crate) async fn start<S>(
        self,
        sink: S,
        shared: Arc<ListenerShared>,
    ) -> Result<RunningTask, Error>
    where
        S: Sink + ReceiveBuffers + Unpin + Send + 'static,
    {
        let Self { config, resolved, connect_timeout, policy, hook } = self;
        let (requests, inbox) = mpsc::unbounded_channel();
        let secret = net::random()?;
        let telemetry = Telemetry::new(&resolved, &policy);
        let now = (net::now(), SystemTime::now());
        let supervisor = Supervisor::new(sink, now, secret, policy);
        let (connected, wait) = oneshot::channel();
        let queue = PhantomData;
        let environment = TokioEnvironment { config, connect_timeout, hook, telemetry, queue };
        let task = ListenerTask::new(environment, supervisor, inbox, shared.clone(), connected);
        let running = RunningTask {
            handle: ListenerHandle::new(requests, shared),
            task: Some(tokio::spawn(Guarded(task))),
        };
        match wait.await {
            Ok(()) => Ok(running),
            Err(_) => Err(running.cause()),
        }
    }
}

/// A task that was started. Dropping it ends the session in the background, even if there are handles.
#[derive(Debug)]
pub(crate) struct RunningTask {
    pub(crate) handle: ListenerHandle,
    /// `None` after `close` has taken it.
    task: Option<JoinHandle<()>>,
}

impl RunningTask {
    /// Creates it without a task, for a driver that polls the task itself.
    #[cfg(test)]
    pub(crate) fn without_task(handle: ListenerHandle) -> Self {
        Self { handle, task: None }
    }

    /// Ends the session with Terminate, and waits for the end of the task.
    pub(crate) async fn close(mut self) {
        self.handle.close().await;
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }

    /// Returns the error that it ended with.
    fn cause(&self) -> Error {
        let shared = self.handle.shared();
        shared.cause().cloned().unwrap_or_else(|| shared.closed())
    }
}

impl Drop for RunningTask {
    fn drop(&mut self) {
        self.handle.send_close();
    }
}
