//! Runs a blocking hook in a thread of its own.

use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};
use tokio::task::spawn_blocking;

use super::connection::Connection;
use super::reactor::{HookRun, Reactor};
use super::waiter::Waiter;
use crate::error::{Error, ErrorKind};
use crate::proto::supervisor::Live;

type HookFuture = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Returns the hook as the listener runs it. Its future is dropped when the run is cancelled.
pub(super) fn in_thread(
    hook: impl Fn(Connection, Live) -> Result<(), Error> + Send + Sync + 'static,
) -> impl Fn(crate::Connection, Live) -> HookFuture + Send + Sync + 'static {
    let hook = Arc::new(hook);
    // A cancelled run continues to the next call of its connection. The next run begins after that.
    let turns = Arc::new(Mutex::new(()));
    let waiter = Waiter::new();
    move |connection, live| {
        let (hook, turns) = (hook.clone(), turns.clone());
        Box::pin(async move {
            let turn = turns.lock_owned().await;
            let (running, is_running) = watch::channel(());
            let run = HookRun { runtime: Handle::current(), waiter, is_running };
            let connection = Connection::new(connection, Reactor::HookRun(run));
            let ended = spawn_blocking(move || {
                let _turn = turn;
                hook(connection, live)
            });
            let ended = ended.await;
            drop(running);
            ended.unwrap_or_else(|error| match error.try_into_panic() {
                // Contained and reported by the listener, as the panic of every hook.
                Ok(panic) => resume_unwind(panic),
                Err(_) => Err(Error::new(ErrorKind::Closed, "the runtime ends")),
            })
        })
    }
}
