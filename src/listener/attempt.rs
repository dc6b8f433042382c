//! [`OpeningAttempt`]: an attempt to connect, in a task of its own. It runs code of the user, such as a check of a certificate or
//! a key in hardware: a panic there ends only the attempt, and slow code does not block the task of the listener.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

use super::environment::OpeningFuture;
use crate::error::{Error, ErrorKind, Panic};
use crate::net::Established;

/// A running attempt. Dropping it ends the attempt at its next await.
pub(super) struct OpeningAttempt(JoinHandle<Result<Established, Error>>);

impl OpeningAttempt {
    pub(super) fn start(opening: OpeningFuture) -> Self {
        Self(tokio::spawn(opening))
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Established, Error>> {
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
