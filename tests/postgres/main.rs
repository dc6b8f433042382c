//! What the library promises, on real PostgreSQL servers that the tests start themselves.
//!
//! `matrix` runs on every supported major version, everything else on the installed one.

#![cfg(all(unix, feature = "tokio", feature = "saslprep", feature = "proto"))]

mod backpressure;
#[cfg(feature = "tls-ring")]
mod binding;
mod chaos;
mod connect;
#[cfg(feature = "tls-ring")]
mod control;
mod ending;
mod failover;
#[cfg(feature = "testing")]
mod imitation;
#[cfg(feature = "tls-ring")]
mod iterations;
mod long;
mod matrix;
mod meanwhile;
#[cfg(target_os = "linux")]
mod memory;
mod notifier;
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod outside;
mod overflow;
mod pins;
mod pooler;
#[cfg(feature = "tls-ring")]
mod preferred;
mod provider;
#[path = "../queries/mod.rs"]
mod queries;
#[cfg(feature = "tls-ring")]
mod readme;
mod receiving;
#[cfg(feature = "tls-ring")]
mod relay;
mod sql;
mod subscribe;
mod support;
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod tls;
mod transactions;
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod trust;
