//! Tables and queries in memory that follow the database.

mod ending;
mod examples;
mod failover;
mod reading;
mod refusals;
mod support;
mod waking;
mod watching;
