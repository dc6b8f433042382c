//! The durable log on real servers.

mod support;

mod acknowledging;
mod failover;
mod full_disk;
mod guide;
mod late;
mod lease;
mod operating;
mod pages;
mod reading;
mod refusals;
mod retention;
mod schedule;
mod waking;
