//! [`Hook`]: a blocking hook, which runs in a thread of its own.

use std::fmt;
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::connection::Connection;
use super::hook_run::HookRun;
use super::reactor::Reactor;
use super::waiter::Waiter;
use crate::error::{Error, ErrorKind};
use crate::proto::supervisor::Live;

type HookFuture = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// The user's function.
#[derive(Clone)]
pub(super) struct Hook(Arc<dyn Fn(Connection, Live) -> Result<(), Error> + Send + Sync>);

impl Hook {
    pub(super) fn new(
        hook: impl Fn(Connection, Live) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(hook))
    }

    /// Returns the hook as one listener of this process runs it. Its future is dropped when the run is cancelled.
    pub(super) fn in_thread(
        self,
    ) -> impl Fn(crate::Connection, Live) -> HookFuture + Send + Sync + 'static {
        // A cancelled run continues to the next call of its connection. The next run of this listener begins after that.
        let turns = Arc::new(Mutex::new(()));
        let waiter = Waiter::new();
        move |connection, live| {
            let (hook, turns) = (self.0.clone(), turns.clone());
            Box::pin(async move {
                let turn = turns.lock_owned().await;
                let (run, end) = HookRun::begin(waiter);
                let connection = Connection::new(connection, Reactor::HookRun(run));
                let ended = spawn_blocking(move || {
                    let _turn = turn;
                    hook(connection, live)
                });
                let ended = ended.await;
                drop(end);
                ended.unwrap_or_else(|error| match error.try_into_panic() {
                    // Contained and reported by the listener, as the panic of every hook.
                    Ok(panic) => resume_unwind(panic),
                    Err(_) => Err(Error::new(ErrorKind::Closed, "the runtime ends")),
                })
            })
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}
