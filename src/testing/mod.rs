//! Test servers without PostgreSQL, for tests of this crate and of its users.
//!
//! | type | is | needs |
//! |---|---|---|
//! | [`Backend`] | a sans-IO server with sessions, transactions, LISTEN and NOTIFY | nothing |
//! | [`Server`] | a `Backend` on a local socket | feature `tokio` |
//! | [`Script`] | a server that sends exactly the bytes it is given, valid or not | for [`Script::serve`]: feature `tokio` |
//! | [`Link`] | a client [`Session`](crate::proto::session::Session) joined to a `Backend` in memory | nothing |
//!
//! None of them stores data or protects secrets: they are for tests and demonstrations on one machine.

mod backend;
mod link;
mod script;
#[cfg(feature = "tokio")]
mod server;

pub use backend::{
    Answer, Auth, Backend, BackendConfig, Count, OUTPUT_BYTES_MAX, Proxy, Query, SCRAM_ITERATIONS,
    SessionId,
};
pub use link::Link;
pub use script::{Delivery, Mismatch, Output, Script};
#[cfg(feature = "tokio")]
pub use server::Server;
