//! Functions that wait until a condition of the backend is true.

use std::io;
use std::pin::pin;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::super::Backend;
use super::shared::Shared;

/// Waits until `condition` is true. Returns `None` at the timeout.
pub(super) async fn until(
    shared: &Shared,
    timeout: Duration,
    mut condition: impl FnMut(&Backend) -> bool,
) -> Option<()> {
    let looking = async {
        loop {
            let mut changed = pin!(shared.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if condition(&shared.backend()) {
                return;
            }
            changed.await;
        }
    };
    tokio::time::timeout(timeout, looking).await.ok()
}

/// Like [`until`], for a thread.
pub(super) fn blocking_until(
    shared: &Shared,
    timeout: Duration,
    mut condition: impl FnMut(&Backend) -> bool,
) -> Option<()> {
    let begin = Instant::now();
    let mut backend = shared.backend();
    while !condition(&backend) {
        let left = timeout.checked_sub(begin.elapsed()).filter(|left| !left.is_zero())?;
        let waited = shared.changed_blocking.wait_timeout(backend, left);
        (backend, _) = waited.unwrap_or_else(PoisonError::into_inner);
    }
    Some(())
}

/// Returns an error in a runtime with one thread: the server runs in the thread that would block.
pub(super) fn refuse_to_block() -> io::Result<()> {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::CurrentThread => {
            let text = "this call would block the only thread of the runtime: await the asynchronous form of the method";
            Err(io::Error::other(text))
        }
        _ => Ok(()),
    }
}

pub(super) fn timed_out(what: &str, timeout: Duration, backend: &Backend) -> io::Error {
    let mut text = format!("{what} within {timeout:?}");
    for id in backend.sessions() {
        let channels: Vec<&str> = backend.channels(id).collect();
        let process_id = backend.process_id(id).unwrap_or_default();
        text.push_str(&format!("; session {process_id} listens to {channels:?}"));
    }
    io::Error::new(io::ErrorKind::TimedOut, text)
}
