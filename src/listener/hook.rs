//! The hook that reads the state when a listener is live, before anything is delivered.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

use crate::supervisor::Live;
use crate::{Config, Connection, Error, ErrorKind};

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

    /// Opens a connection and runs the hook with it, in a task of its own: a panic stays there.
    pub(super) fn run(&self, config: Config, live: Live) -> HookRun {
        let hook = self.0.clone();
        HookRun(tokio::spawn(async move {
            let connection = Connection::connect(config).await?;
            hook(connection, live).await
        }))
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// A hook that runs. Dropping it ends it at its next await.
pub(super) struct HookRun(JoinHandle<Result<(), Error>>);

impl HookRun {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
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
