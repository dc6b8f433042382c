//! An attempt to connect, in a task of its own. Code of the user runs in it, such as a check of a certificate or a key in
//! hardware: a panic there ends the attempt alone, and its time is not that of the listener's task.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

use super::outside::Opening;
use crate::net::Established;
use crate::{Error, ErrorKind};

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
