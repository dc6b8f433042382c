//! The whole client against the crate's own backend on a local socket: no PostgreSQL needed.

mod command_queue;
mod connection;
mod dropped;
mod interface;
mod limits;
mod listener;
mod notifier;
mod panics;
mod pins;
mod pooler;
mod regression;
mod runtimes;
mod servers;
mod shell;
mod silence;
mod steps;
mod strays;
mod support;
mod timers;
mod user_code;
