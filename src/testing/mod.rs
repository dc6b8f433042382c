//! A server without PostgreSQL.
mod backend;
#[cfg(feature = "tokio")]
mod server;
pub use backend::{Auth, Backend, BackendConfig, Count, SessionId, OUTPUT_BYTES_MAX, SCRAM_ITERATIONS};
#[cfg(feature = "tokio")]
pub use server::Server;
