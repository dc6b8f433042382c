//! The clock, and a timer for one deadline.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Instant;

use tokio::time::Sleep;

/// Returns the time of the runtime's monotonic clock, which a test can pause.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A timer for a deadline that can change. It allocates once.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    set: Option<Instant>,
}

impl Timer {
    /// Returns whether `deadline` has passed. If not, the task is woken when it does.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> bool {
        let Some(deadline) = deadline else {
            self.set = None;
            return false;
        };
        if deadline <= now() {
            return true;
        }
        let sleep =
            self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        if self.set != Some(deadline) {
            sleep.as_mut().reset(deadline.into());
            self.set = Some(deadline);
        }
        sleep.as_mut().poll(cx).is_ready()
    }
}
