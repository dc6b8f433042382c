//! Servers that lie, break off, flood and fall silent: each id of the catalogue of faults is a test, or is
//! named in `catalogue` with the place where it is one.
//!
//! Every attack runs against the sans-IO session split at every byte, and over real sockets against
//! `Connection` and `Listener`: in one write, byte by byte, and split at every byte of what is hostile. There a
//! listener has one session. What it does about the next one is `reconnect`.

mod advisories;
mod answers;
mod attack;
mod authentication;
mod catalogue;
mod client;
mod errors;
mod framing;
#[cfg(unix)]
mod local;
mod names;
#[path = "../queries/mod.rs"]
mod queries;
#[cfg(unix)]
mod reconnect;
mod scram;
mod slow;
mod startup;
#[cfg(feature = "tls")]
mod tls;
