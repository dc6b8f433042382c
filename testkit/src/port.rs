//! Ports for servers.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{Ipv4Addr, TcpListener};

use crate::error::Error;

/// Ports below those that the kernel uses for outgoing connections (Linux: 32768 and up).
///
/// So no outgoing connection takes the port between a stop and the next start, and a client that connects to a stopped
/// server cannot be connected to itself. `SERVERS.md`, Ports.
const PORTS: std::ops::Range<u16> = 10_240..32_000;

/// How often another port is tried if another process takes the one that was free.
pub(crate) const ATTEMPTS_MAX: u32 = 20;

/// Returns a free port of 127.0.0.1.
pub(crate) fn free() -> Result<u16, Error> {
    free_listener().map(|(port, _)| port)
}

/// Returns a free port of 127.0.0.1 and a listener on it.
pub(crate) fn free_listener() -> Result<(u16, TcpListener), Error> {
    let span = u64::from(PORTS.end - PORTS.start);
    for _ in 0..1_000 {
        // Seeded by the system, so that two processes that start at once do not try the same ports.
        let random = RandomState::new().build_hasher().finish() % span;
        let port = PORTS.start + u16::try_from(random).unwrap_or(0);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok((port, listener));
        }
    }
    Err(Error::new(format!("no free port between {} and {}", PORTS.start, PORTS.end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_below_the_ephemeral_ones() {
        let port = free().unwrap();
        assert!(PORTS.contains(&port));
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    }
}
