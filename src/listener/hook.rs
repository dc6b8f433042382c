//! The hook that reads the state when a listener is live, before anything is delivered.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::net::{Place, Timer, now};
use crate::supervisor::Live;
use crate::{Config, Connection, Error, ErrorKind};

/// How long the end of a listener waits for a hook that was told to end: it goes on to its next await.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

type Running = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// What the user has given.
#[derive(Clone)]
pub(super) struct Hook(Arc<dyn Fn(Connection, Live) -> Running + Send + Sync>);

impl Hook {
    pub(super) fn new<F, Fut>(hook: F) -> Self
    where
        F: Fn(Connection, Live) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        Self(Arc::new(move |connection, live| Box::pin(hook(connection, live))))
    }

    /// Opens a connection and runs the hook with it, in a task of its own: a panic stays there. It reads the server
    /// that the session listens to: another one may lag behind it.
    pub(super) fn run(&self, config: Config, place: Option<Place>, live: Live) -> HookRun {
        let hook = self.0.clone();
        HookRun(tokio::spawn(async move {
            let gone =
                || Error::new(ErrorKind::Connect, "the session that the hook is for is gone");
            let connection = Connection::beside(config, &place.ok_or_else(gone)?).await?;
            hook(connection, live).await
        }))
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// The hook that runs, and those that were told to end and may have a socket still.
#[derive(Default)]
pub(super) struct Hooks {
    running: Option<HookRun>,
    cancelled: Vec<HookRun>,
    /// How long the end of the listener waits for them.
    until: Option<Instant>,
    timer: Timer,
}

impl Hooks {
    pub(super) fn start(&mut self, run: HookRun) {
        self.cancel();
        self.running = Some(run);
    }

    pub(super) fn cancel(&mut self) {
        if let Some(run) = self.running.take() {
            run.0.abort();
            self.cancelled.push(run);
            self.until = now().checked_add(CANCEL_TIMEOUT);
        }
    }

    /// Waits for the end of the one that runs.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.cancelled.retain_mut(|run| run.poll(cx).is_pending());
        let Some(running) = &mut self.running else { return Poll::Pending };
        let result = ready!(running.poll(cx));
        self.running = None;
        Poll::Ready(result)
    }

    /// Waits until none is left.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.cancelled.retain_mut(|run| run.poll(cx).is_pending());
        if self.cancelled.is_empty() || self.timer.poll(cx, self.until) {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// A hook that runs. Dropping it ends it at its next await.
pub(super) struct HookRun(JoinHandle<Result<(), Error>>);

impl HookRun {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.0).poll(cx).map(|joined| match joined {
            Ok(result) => result,
            Err(error) if error.is_panic() => {
                Err(Error::new(ErrorKind::Misuse, "the on_live hook panicked"))
            }
            Err(_) => Err(Error::new(ErrorKind::Closed, "the runtime ends")),
        })
    }
}

impl Drop for HookRun {
    fn drop(&mut self) {
        self.0.abort();
    }
}
