//! Queues of [pgmq](https://github.com/pgmq/pgmq), and a consumer that is woken.
//!
//! pgmq is a queue in tables: a read makes messages invisible for a while, and what is not archived or deleted until then is read again.
//!
//! - [`Queue`] has the calls of pgmq on a [`Connection`](crate::Connection), and their SQL for the transaction of any driver.
//! - [`ConsumerBuilder`], made by [`Queue::consumer`], starts a consumer, which calls a handler for each [`Job`].
//! - [`Version`] is which pgmq a database has: 1.5 or later, as an extension, or as plain SQL: `pgmq-extension/sql/pgmq.sql` in the sources of pgmq, run once in the database.

mod builder;
mod command;
mod fate;
mod found;
mod held;
mod job;
mod lookahead;
mod machine;
mod message;
mod metrics;
mod queue;
mod refusal;
mod rest;
mod running;
mod runs;
mod settings;
mod shared;
mod stats;
mod stopped;
mod store;
mod task;
mod telemetry;
#[cfg(test)]
mod tests;
mod version;

pub use self::builder::ConsumerBuilder;
pub use self::job::{DeadJob, Job};
pub use self::message::Message;
pub use self::metrics::QueueMetrics;
pub use self::queue::Queue;
pub use self::running::RunningConsumer;
pub use self::settings::Finish;
pub use self::stats::ConsumerStats;
pub use self::stopped::Stopped;
pub use self::version::Version;
