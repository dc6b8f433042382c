//! Tests of the documented behaviour, on real PostgreSQL servers that the tests start.
//!
//! `matrix` runs on every supported major version, everything else on the installed one.

#![cfg(all(unix, feature = "tokio", feature = "saslprep", feature = "proto"))]

mod backpressure;
#[cfg(feature = "tls-ring")]
mod binding;
#[cfg(feature = "blocking")]
mod blocking;
mod busy;
#[path = "../cargo/mod.rs"]
mod cargo;
mod chaos;
mod connect;
mod dice;
mod dispatcher;
#[cfg(feature = "durable")]
mod durable;
mod ending;
mod examples;
mod failover;
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod files;
mod hub;
#[cfg(feature = "testing")]
mod imitation;
#[cfg(feature = "tls-ring")]
mod iterations;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "tracing")]
#[path = "../log/mod.rs"]
mod log;
mod long;
mod matrix;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(feature = "durable")]
mod mirror;
mod notifier;
mod nudge;
mod nudge_refused;
mod overflow;
#[cfg(feature = "durable")]
mod pgmq;
mod pins;
mod pooler;
#[cfg(feature = "tls-ring")]
mod preferred;
mod provider;
#[cfg(feature = "tls-ring")]
mod psql;
#[path = "../queries/mod.rs"]
mod queries;
#[cfg(feature = "tls-ring")]
mod readme;
mod receiving;
mod recipes;
#[cfg(feature = "tls-ring")]
mod relay;
mod scope;
mod sql;
mod subscribe;
mod support;
#[cfg(feature = "tracing")]
mod telemetry;
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod tls;
mod transactions;
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod trust;
mod wakeups;
