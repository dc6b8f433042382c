//! The durable log on real servers.

mod support;

mod acknowledging;
mod guide;
mod late;
mod lease;
mod operating;
mod pages;
mod reading;
mod refusals;
mod retention;
