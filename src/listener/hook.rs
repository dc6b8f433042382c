//! The user's `on_live` function: [`Hook`] stores it, [`Hooks`] runs it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::environment::Environment;
use crate::config::Config;
use crate::connection::Connection;
use crate::error::{Error, ErrorKind, Panic};
use crate::net::ServerLocation;
use crate::proto::supervisor::{Live, Owner};

/// The longest time that the end of a listener waits for a cancelled hook, which runs to its next await.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

type HookFuture = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// The user's function.
#[derive(Clone)]
pub(super) struct Hook {
    function: Arc<dyn Fn(Connection, Live) -> HookFuture + Send + Sync>,
    owner: Owner,
}

impl Hook {
    pub(super) fn new<F, Fut>(owner: Owner, hook: F) -> Self
    where
        F: Fn(Connection, Live) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let function =
            Arc::new(move |connection, live| -> HookFuture { Box::pin(hook(connection, live)) });
        Self { function, owner }
    }

    /// Opens a connection and runs the hook with it, in a task of its own, so that a panic ends only that task. The
    /// connection is to the server of the listening session, because another server may lag behind it.
    pub(super) fn run(
        &self,
        config: Config,
        place: Option<ServerLocation>,
        live: Live,
    ) -> HookTask {
        let Self { function, owner } = self.clone();
        let task = tokio::spawn(async move {
            let lost = || Error::new(ErrorKind::Connect, "the session of the hook was lost");
            let run = async {
                let connection =
                    Connection::connect_to_same_server(config, &place.ok_or_else(lost)?).await?;
                function(connection, live).await
            };
            run.await.map_err(|error| error.within(&format!("the {} hook failed", owner.hook())))
        });
        HookTask { task, owner }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// The runs of the hook, one after the other. A cancelled run continues to its next await.
pub(super) struct Hooks<E: Environment> {
    /// The next run, which begins when the previous one has ended.
    next: Option<Live>,
    running: Option<E::RunningHook>,
    cancelled: Option<E::RunningHook>,
    /// The end of a listener waits for the cancelled run until then.
    until: Option<Instant>,
    timer: E::Timer,
}

impl<E: Environment> Hooks<E> {
    pub(super) fn new() -> Self {
        let timer = E::Timer::default();
        Self { next: None, running: None, cancelled: None, until: None, timer }
    }

    pub(super) fn start(&mut self, live: Live) {
        self.next = Some(live);
    }

    pub(super) fn cancel(&mut self, environment: &mut E) {
        self.next = None;
        if let Some(mut run) = self.running.take() {
            environment.cancel_hook(&mut run);
            self.cancelled = Some(run);
            self.until = environment.now().checked_add(CANCEL_TIMEOUT);
        }
    }

    /// Begins the next run for the session on `socket`, if the previous run has ended. Returns whether one began.
    pub(super) fn begin(
        &mut self,
        cx: &mut Context<'_>,
        environment: &mut E,
        socket: Option<&E::Socket>,
    ) -> bool {
        if !self.has_ended(cx, environment) {
            return false;
        }
        let Some(live) = self.next.take() else { return false };
        self.running = environment.run_hook(socket, live);
        true
    }

    /// Waits for the end of the current run, and returns its result.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        environment: &mut E,
    ) -> Poll<Result<(), Error>> {
        let Some(running) = &mut self.running else { return Poll::Pending };
        let result = ready!(environment.poll_hook(cx, running));
        self.running = None;
        Poll::Ready(result)
    }

    /// Waits until the cancelled run has ended, or its time is over.
    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>, environment: &mut E) -> Poll<()> {
        if self.has_ended(cx, environment)
            || environment.poll_timer(cx, &mut self.timer, self.until)
        {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Returns whether the cancelled run has ended.
    fn has_ended(&mut self, cx: &mut Context<'_>, environment: &mut E) -> bool {
        self.cancelled.take_if(|run| environment.poll_hook(cx, run).is_ready());
        self.cancelled.is_none()
    }
}

/// The task of a run of the hook. Dropping it ends the run at its next await.
pub(super) struct HookTask {
    task: JoinHandle<Result<(), Error>>,
    owner: Owner,
}

impl HookTask {
    /// Ends the run at its next await.
    pub(super) fn abort(&self) {
        self.task.abort();
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let joined = ready!(Pin::new(&mut self.task).poll(cx));
        Poll::Ready(match joined.map_err(|e| e.try_into_panic()) {
            Ok(result) => result,
            Err(Ok(payload)) => {
                let hook = format!("the {} hook", self.owner.hook());
                Err(Error::panicked(&hook, &Panic::new(payload)))
            }
            Err(Err(_)) => Err(Error::new(ErrorKind::Closed, "the runtime ends")),
        })
    }
}

impl Drop for HookTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}
