//! Servers that send false answers, stop in the middle, flood, or go silent. Each id of the catalogue of faults is a test, or
//! `catalogue` names the place of its test. Every attack runs against the sans-IO session, split at every byte, and over real
//! sockets against `Connection` and `Listener`: in one write, byte by byte, and split at every hostile byte. There a listener
//! has one session. `reconnect` tests what it does next.

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
