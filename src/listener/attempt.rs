//! An attempt to connect, in a task of its own. Code of the user runs in it, such as a password provider or a check of
//! a certificate: a panic there ends the attempt alone, and code that keeps its thread keeps the attempt alone.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::outside::Opening;
use crate::net::{self, Established};
use crate::{Error, ErrorKind};

/// The attempts of a listener, one at a time. One that was given up may run on while code of the user keeps its
/// thread: if the next one began meanwhile, each might keep a thread more.
#[derive(Clone)]
pub(super) struct Turn(Arc<Semaphore>);

impl Turn {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    /// Runs `opening` when no other attempt runs, if that is before `until`.
    pub(super) fn take(
        &self,
        until: Instant,
        opening: impl Future<Output = Result<Established, Error>> + Send + 'static,
    ) -> Opening {
        let turn = self.0.clone();
        Box::pin(async move {
            let waited = async { turn.acquire_owned().await.map_err(|_| gone()) };
            // Until the attempt has ended in any way.
            let _turn = net::bounded(until, "the end of the attempt before it", waited)
                .await
                .map_err(|error| {
                    error.with_hint("does the password_provider block the thread it runs on?")
                })?;
            opening.await
        })
    }
}

/// An attempt that runs. Dropping it ends it at its next await.
pub(super) struct Attempt(JoinHandle<Result<Established, Error>>);

impl Attempt {
    pub(super) fn start(opening: Opening) -> Self {
        Self(tokio::spawn(opening))
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Established, Error>> {
        Pin::new(&mut self.0).poll(cx).map(|joined| match joined.map_err(|e| e.try_into_panic()) {
            Ok(result) => result,
            Err(Ok(payload)) => Err(Error::panicked("the attempt to connect", &*payload)),
            Err(Err(_)) => Err(gone()),
        })
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cold]
fn gone() -> Error {
    Error::new(ErrorKind::Closed, "the runtime ends")
}
