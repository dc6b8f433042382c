//! The parts of pgbell that do no I/O, for fuzzing, benchmarks, simulation and other runtimes.
//!
//! **They are outside of semantic versioning**: any release may change them. They need the feature `proto`, and build
//! without the other features.
//!
//! | module | contents |
//! |---|---|
//! | [`wire`] | the codec: frames, messages, quoting, limits |
//! | [`auth`] | the answers to the server's requests for authentication |
//! | [`route`] | the order in which an attempt tries its candidates |
//! | [`session`] | one connection: login, commands, channels |
//! | [`supervisor`] | one listener: reconnecting, gaps, heartbeats, handovers |
//! | [`ring`] | the lock-free data structure of the queue between a listener's task and its consumer |
//!
//! Structs and enums that may grow are `#[non_exhaustive]`, with constructors. These are not:
//! - structs of [`wire`] whose fields are those of a message of protocol 3, which does not change,
//! - enums that a driver must match completely, because it cannot do anything for a variant that it does not know: the results of a
//!   step ([`auth::AuthStep`], [`auth::scram::ScramProgress`], [`auth::ScramVerdict`], [`session::Progress`], [`ring::Taken`],
//!   [`route::NextAttempt`]), and [`supervisor::Close`]. A new variant is an error of the compiler there,
//! - enums that protocol 3 or the steps of a login make complete: [`wire::TransactionStatus`], [`wire::Target`],
//!   [`route::Reached`].
//!
//! [`Effective`] returns the values of a [`Config`](crate::Config) that are used, with the defaults.

pub mod auth;
pub mod ring;
pub mod route;
pub mod session;
pub mod supervisor;
pub mod wire;

pub use crate::config::effective::{Effective, Keepalive};
