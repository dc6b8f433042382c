//! What a tokio runtime must have.

use std::time::Duration;

/// Panics with tokio's own words when the current runtime has no timers or no I/O, or when there is none: in the call
/// of the user, and not later in a task of ours. Tokio has no other way to ask.
#[track_caller]
pub(crate) fn check_runtime() {
    drop(tokio::time::sleep(Duration::ZERO));
    // Registers a socket that is bound to nothing. If there is no socket to be had, the attempt to connect says why.
    #[cfg(unix)]
    drop(tokio::net::UnixDatagram::unbound());
    #[cfg(not(unix))]
    if let Ok(socket) = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)) {
        if socket.set_nonblocking(true).is_ok() {
            drop(tokio::net::UdpSocket::from_std(socket));
        }
    }
}
