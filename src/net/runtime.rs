//! The check of the tokio runtime.

use std::time::Duration;

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
