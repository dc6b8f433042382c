//! The server without PostgreSQL: against our own session in memory, and on a real socket.
#![cfg(feature = "testing")]

#[cfg(feature = "tokio")]
mod server;
