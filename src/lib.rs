//! A client for PostgreSQL's LISTEN and NOTIFY, with its own implementation of the wire protocol.
//!
//! The dependencies of a first program, in a directory next to a clone of the repository:
//!
//! ```text
//! cargo add --path ../pgbell
//! cargo add tokio --features macros,rt-multi-thread
//! ```
//!
//! ```no_run
//! use pgbell::{Event, Listener, Notifier};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), pgbell::Error> {
//!     let mut listener = Listener::connect("postgres://localhost/shop").await?;
//!     listener.listen("orders").await?;
//!
//!     let notifier = Notifier::connect("postgres://localhost/shop").await?;
//!     notifier.notify("orders", "{\"id\": 1}").await?;
//!
//!     loop {
//!         match listener.recv().await? {
//!             Event::Notification(n) => println!("{}: {}", n.channel(), n.payload()),
//!             Event::Lagged(lagged) => println!("{} were dropped here", lagged.count()),
//!             Event::Gap(gap) => println!("read the state again: {gap}"),
//!             _ => {}
//!         }
//!     }
//! }
//! ```
//!
//! # Which type
//!
//! | type | what it is | when |
//! |---|---|---|
//! | [`Listener`] | a task reads the socket into a bounded queue | in a service: the socket is always read |
//! | [`Connection`] | the calling task reads the socket; batches are views of the receive buffer | in one loop that does nothing else, at the speed of the socket; also for queries |
//! | [`Hub`] | one session, and any number of subscriptions to channels and topics, each with its own queue | to pass notifications on to many, such as WebSocket clients |
//! | [`Dispatcher`] | calls handlers with the notifications of a [`Listener`] or a [`Hub`] | in a service with a handler for each channel or topic |
//! | [`Wakeups`] | wakes workers by notifications, and at an interval in case one is lost | for a queue, an outbox or a workflow in a table |
//! | `durable::Outbox` | a log in a table, with cursors: at least once, in the order of each key, also for readers that were not running. With the feature `durable` | for what must not be missed |
//! | `durable::Mirror` | a table or a query in memory, in which each changed row is read again, and all rows after a loss. With the feature `durable` | for a cache, a dashboard, a live page |
//! | `durable::pgmq::Queue` | a queue of pgmq, and a consumer that is woken. With the feature `durable` | for jobs, if you have pgmq |
//! | [`Notifier`] | many tasks send over one connection, in groups; it reconnects. [`nudge`](Notifier::nudge) only wakes, and waits for nothing | to publish |
//!
//! # Guarantees
//!
//! - While a session is open, every notification that the server sends to it is delivered once and in the server's order, or is part of a
//!   reported loss: [`Lagged`] has the exact number of those that a full queue has dropped.
//! - After a lost session a [`Listener`] reconnects, listens again, and delivers a [`Gap`] before any later notification.
//!   PostgreSQL stores no notification for a session that has ended, so read the state again after a loss.
//! - [`Listener::listen`] returns after the server has committed the LISTEN.
//! - Memory is bounded, whatever a server sends. No message of a server causes a panic, and no error or `Debug` text shows a secret.
//!
//! # The guide
//!
//! - To start: [`guide::quick_start`], [`guide::choosing_a_type`], [`guide::moving`] from other clients, [`guide::when_not`].
//! - To connect: [`guide::connecting`], [`guide::poolers`] and hosted databases.
//! - To build: [`guide::losing_nothing`], [`guide::fan_out`], [`guide::handlers`], [`guide::wake_or_poll`], [`guide::publishing`],
//!   [`guide::triggers`], [`guide::existing_queues`], `guide::durability`, `guide::tables_and_queues`, `guide::json`, `guide::blocking`, [`guide::testing_your_code`].
//! - To operate: [`guide::production`] with logs and metrics, [`guide::memory`], [`guide::performance`], [`guide::listen_cost`].
//! - To evaluate: [`guide::correctness`].
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `tokio` | yes | all types that use a socket |
//! | `saslprep` | yes | SCRAM with passwords that are not ASCII |
//! | `tls-ring` | yes | TLS by rustls, with the cryptography of ring |
//! | `tls-aws-lc-rs` | | TLS by rustls, with the cryptography of AWS-LC: post-quantum key exchange, FIPS |
//! | `tls` | | TLS by rustls, with the provider that the process has installed |
//! | `durable` | | `durable`: a log in a table that is read by position, of which nothing is missed; tables in memory that follow the database; and consumers of queues of pgmq |
//! | `blocking` | | `blocking`: connections, listeners and notifiers for threads without async |
//! | `tracing` | | log events of a [`Listener`], a [`Hub`], [`Wakeups`] or a [`Notifier`], and a span `connect` for each attempt |
//! | `metrics` | | the statistics of the session of a [`Listener`], a [`Hub`] or [`Wakeups`] as counters and gauges: [`Stats`] |
//! | `json` | | payloads of JSON as values of your types, by serde |
//! | `proto` | | `proto`: the parts without I/O, outside of semantic versioning |
//! | `testing` | | `testing`: a scripted server, and a backend with real LISTEN and NOTIFY, for tests; includes `proto`. `testing::Link`, which uses that, is outside of semantic versioning |
//!
//! With the feature `proto`, the module `proto` contains the parts that do no I/O: the codec, the session, the supervisor
//! and the ring, for other runtimes, fuzzing and simulation. They build without the default features.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "blocking")]
pub mod blocking;
pub mod config;
mod error;
mod notification;
#[cfg(feature = "proto")]
pub mod proto;
#[cfg(not(feature = "proto"))]
#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "its public items are only for the feature `proto`"
)]
mod proto;

#[cfg(feature = "tokio")]
mod connection;
#[cfg(feature = "tokio")]
mod dispatcher;
#[cfg(feature = "durable")]
pub mod durable;
#[cfg(feature = "tokio")]
pub mod guide;
#[cfg(feature = "tokio")]
mod hub;
#[cfg(feature = "tokio")]
mod listener;
#[cfg(feature = "tokio")]
mod net;
#[cfg(feature = "tokio")]
mod notifier;
#[cfg(feature = "tokio")]
mod queue;
#[cfg(all(test, feature = "tokio", feature = "testing"))]
mod simulator;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tokio")]
mod wakeups;

#[cfg(feature = "tokio")]
pub use config::password_provider::PasswordRequest;
pub use config::{Config, DeliveryProof};
#[cfg(feature = "tokio")]
pub use connection::Connection;
#[cfg(feature = "tokio")]
pub use dispatcher::{
    DispatchLoss, Dispatcher, DispatcherHandle, DispatcherStats, Failure, FailureCause,
    HandlerOutput, Retry, RunningDispatcher, Stopped,
};
pub use error::{Error, ErrorKind};
#[cfg(feature = "tokio")]
pub use hub::{Hub, HubBuilder, HubHandle, HubStats, Subscribe, Subscription, SubscriptionStats};
#[cfg(feature = "tokio")]
pub use listener::{ListenScope, Listener, ListenerBuilder, ListenerHandle, Stats};
pub use notification::{
    Batch, BatchIter, Event, Gap, Lagged, Loss, Notification, NotificationRef, SharedBatch,
};
#[cfg(feature = "json")]
pub use notification::{JsonError, JsonEvent};
#[cfg(all(feature = "json", feature = "tokio"))]
pub use notification::{JsonStream, TryRecv};
#[cfg(feature = "tokio")]
pub use notification::{TopicFunction, TopicOf};
#[cfg(feature = "tokio")]
pub use notifier::{Notifier, NotifierBuilder, NotifierStats};
pub use proto::auth::AuthMethod;
pub use proto::session::{Column, Row, Rows};
pub use proto::supervisor::{ChannelState, Listening, Live, Overflow, State};
pub use proto::wire::{DbError, Severity, TransactionStatus};
#[cfg(feature = "tokio")]
pub use wakeups::{
    Keys, Listen, Wake, WakeTask, WakeTaskStats, WakeWorker, Wakeups, WakeupsBuilder, WakeupsStats,
    WakeupsStatus,
};

/// Compiles the examples of the README.
#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;
