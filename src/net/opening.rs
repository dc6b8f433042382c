//! [`OpeningAttempt`]: an attempt to connect, in a task of its own. It runs code of the user, such as a check of a certificate or
//! a key in hardware: a panic there ends only the attempt, and slow code does not block the task of the listener or notifier.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

use super::Established;
use crate::error::{Error, ErrorKind, Panic};

/// The future that opens a session.
pub(crate) type OpeningFuture = Pin<Box<dyn Future<Output = Result<Established, Error>> + Send>>;

/// A running attempt. Dropping it ends the attempt at its next await.
pub(crate) struct OpeningAttempt(JoinHandle<Result<Established, Error>>);

impl OpeningAttempt {
    pub(crate) fn start(opening: OpeningFuture) -> Self {
        Self(tokio::spawn(opening))
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Established, Error>> {
        Pin::new(&mut self.0).poll(cx).map(|joined| match joined.map_err(|e| e.try_into_panic()) {
            Ok(result) => result,
            Err(Ok(payload)) => {
                Err(Error::panicked("the attempt to connect", &Panic::new(payload)))
            }
            Err(Err(_)) => Err(runtime_ended()),
        })
    }
}

impl Drop for OpeningAttempt {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cold]
fn runtime_ended() -> Error {
    Error::new(ErrorKind::Closed, "the runtime ends")
}
