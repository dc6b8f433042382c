//! What is used of the tokio runtime: its clock, a timer for one deadline, and the check that there is one.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// Panics with tokio's own message if there is no current runtime, or if it has no timers or no I/O: in the call
/// of the user, and not later in a task of this crate. Tokio has no other way to check.
#[track_caller]
pub(crate) fn check_runtime() {
    drop(tokio::time::sleep(Duration::ZERO));
    // Registers an unbound socket. If there is no free socket, the attempt to connect returns the error.
    #[cfg(unix)]
    drop(tokio::net::UnixDatagram::unbound());
    #[cfg(not(unix))]
    if let Ok(socket) = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)) {
        if socket.set_nonblocking(true).is_ok() {
            drop(tokio::net::UdpSocket::from_std(socket));
        }
    }
}

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
