//! The hook that reads the state when a listener is live, before anything is delivered.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::outside::Outside;
use crate::net::Place;
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
            let run = async {
                let connection = Connection::beside(config, &place.ok_or_else(gone)?).await?;
                hook(connection, live).await
            };
            run.await.map_err(|error| error.within("the on_live hook failed"))
        }))
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// The hook, one run after the other: one that was told to end may go on to its next await.
pub(super) struct Hooks<O: Outside> {
    /// Begins when the one before it has ended.
    next: Option<Live>,
    running: Option<O::Run>,
    cancelled: Option<O::Run>,
    /// How long the end of the listener waits for that.
    until: Option<Instant>,
    timer: O::Timer,
}

impl<O: Outside> Hooks<O> {
    pub(super) fn new() -> Self {
        let timer = O::Timer::default();
        Self { next: None, running: None, cancelled: None, until: None, timer }
    }

    pub(super) fn start(&mut self, live: Live) {
        self.next = Some(live);
    }

    pub(super) fn cancel(&mut self, outside: &mut O) {
        self.next = None;
        if let Some(mut run) = self.running.take() {
            outside.cancel_hook(&mut run);
            self.cancelled = Some(run);
            self.until = outside.now().checked_add(CANCEL_TIMEOUT);
        }
    }

    /// Begins the next one beside the session on this socket, if none is left of the one before. Returns whether it did.
    pub(super) fn begin(
        &mut self,
        cx: &mut Context<'_>,
        outside: &mut O,
        socket: Option<&O::Socket>,
    ) -> bool {
        if !self.has_ended(cx, outside) {
            return false;
        }
        let Some(live) = self.next.take() else { return false };
        self.running = outside.run_hook(socket, live);
        true
    }

    /// Waits for the end of the one that runs.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        outside: &mut O,
    ) -> Poll<Result<(), Error>> {
        let Some(running) = &mut self.running else { return Poll::Pending };
        let result = ready!(outside.poll_hook(cx, running));
        self.running = None;
        Poll::Ready(result)
    }

    /// Waits until none is left.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>, outside: &mut O) -> Poll<()> {
        if self.has_ended(cx, outside) || outside.poll_timer(cx, &mut self.timer, self.until) {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Whether the one that was told to end has ended.
    fn has_ended(&mut self, cx: &mut Context<'_>, outside: &mut O) -> bool {
        self.cancelled.take_if(|run| outside.poll_hook(cx, run).is_ready());
        self.cancelled.is_none()
    }
}

/// A hook that runs. Dropping it ends it at its next await.
pub(super) struct HookRun(JoinHandle<Result<(), Error>>);

impl HookRun {
    /// It ends at its next await.
    pub(super) fn abort(&self) {
        self.0.abort();
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.0).poll(cx).map(|joined| match joined.map_err(|e| e.try_into_panic()) {
            Ok(result) => result,
            Err(Ok(payload)) => Err(Error::panicked("the on_live hook", &*payload)),
            Err(Err(_)) => Err(Error::new(ErrorKind::Closed, "the runtime ends")),
        })
    }
}

impl Drop for HookRun {
    fn drop(&mut self) {
        self.0.abort();
    }
}
