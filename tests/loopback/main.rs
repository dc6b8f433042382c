//! Tests of the whole client against the backend of `pgbell::testing` on a local socket: no PostgreSQL needed.

#[cfg(feature = "blocking")]
mod blocking;
mod closing;
mod command_queue;
mod connection;
mod dropped;
mod hints;
mod hub_texts;
mod interface;
mod limits;
mod listener;
mod notifier;
mod panics;
mod pins;
mod pooler;
mod read_delay;
mod regression;
mod runtimes;
mod servers;
mod silent_servers;
mod stray_errors;
mod support;
mod task;
mod timers;
mod user_code;
mod wakeups;
