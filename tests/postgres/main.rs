//! What the library promises, on real PostgreSQL servers that the tests start themselves.
//!
//! `matrix` runs on every supported major version, everything else on the installed one.

#![cfg(all(unix, feature = "tokio", feature = "saslprep"))]

mod backpressure;
mod chaos;
mod connect;
mod ending;
mod failover;
mod long;
mod matrix;
mod meanwhile;
mod notifier;
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod outside;
mod overflow;
mod pins;
mod pooler;
mod provider;
mod receiving;
mod sql;
mod subscribe;
mod support;
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod tls;
mod transactions;
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod trust;
