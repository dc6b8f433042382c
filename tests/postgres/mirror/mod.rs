//! Tables and queries in memory that follow the database.

mod ending;
mod examples;
mod failover;
mod half_open;
mod inner_code;
mod invalid_keys;
#[cfg(feature = "tracing")]
mod log;
mod pace;
mod reading;
mod refusals;
mod support;
mod waking;
mod watching;
