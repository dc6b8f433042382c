//! The durable log on real servers.

mod support;

mod acknowledging;
mod reading;
