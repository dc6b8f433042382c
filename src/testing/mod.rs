//! A server without PostgreSQL, for tests of this crate and of its users.
//!
//! | type | is | needs |
//! |---|---|---|
//! | [`Backend`] | a sans-IO server with real sessions, transactions, LISTEN and NOTIFY | nothing |
//! | [`Server`] | a `Backend` on a local socket | feature `tokio` |

mod backend;
#[cfg(feature = "tokio")]
mod server;

pub use backend::{
    Auth, Backend, BackendConfig, Count, OUTPUT_BYTES_MAX, SCRAM_ITERATIONS, SessionId,
};
#[cfg(feature = "tokio")]
pub use server::Server;
