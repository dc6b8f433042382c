//! A client for PostgreSQL's LISTEN and NOTIFY, with its own implementation of the wire protocol.
//!
//! ```no_run
//! use pgbell::{Event, Listener, Notifier};
//!
//! # async fn example() -> Result<(), pgbell::Error> {
//! let mut listener = Listener::connect("postgres://localhost/shop").await?;
//! listener.listen("orders").await?;
//!
//! let notifier = Notifier::connect("postgres://localhost/shop").await?;
//! notifier.notify("orders", "{\"id\": 1}").await?;
//!
//! match listener.recv().await? {
//!     Event::Notification(n) => println!("{}: {}", n.channel(), n.payload()),
//!     Event::Lagged(lagged) => println!("{} were dropped here", lagged.count()),
//!     Event::Gap(gap) => println!("read the state again: {gap}"),
//!     _ => {}
//! }
//! # Ok(())
//! # }
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
//! | [`Notifier`] | many tasks send over one connection, in groups; it reconnects. [`nudge`](Notifier::nudge) only wakes, and waits for nothing | to publish |
//!
//! # Guarantees
//!
//! While a session is open, every notification that the server sends to it is delivered once and in the
//! server's order, or is part of a reported loss. [`Lagged`] contains the exact number of notifications that were
//! dropped because the queue was full. A [`Gap`] reports that the server may have sent notifications that were not
//! received. Every method that receives returns both. [`Listener::listen`] returns after the server has committed the
//! LISTEN: every notification of a later commit arrives. PostgreSQL does not store notifications for a session that has
//! ended. So read the state again after a loss.
//!
//! Memory is bounded, whatever a server sends. A length is not trusted before the bytes have arrived. No message of a
//! server causes a panic, and no error or `Debug` text shows a secret.
//!
//! If a [`Listener`] loses its session, it reconnects by itself, listens to all channels again, and delivers a [`Gap`]
//! at that position of the stream. [`on_live`](ListenerBuilder::on_live) can read the state before any later
//! notification is delivered.
//!
//! # Borrowed, shared and owned notifications
//!
//! - A [`Batch`] borrows from the receive buffer. Nothing is copied, and the batch is valid until the next call.
//! - [`Batch::share`] and [`NotificationRef::retain`] return notifications that any thread can keep for any time. They
//!   keep the receive buffer in memory. Such buffers are counted ([`Stats::pinned_bytes`]) and limited
//!   ([`ListenerBuilder::pin_limit_bytes`]). Above the limit, and where a copy is cheaper, the notifications are copied.
//! - A [`Notification`], from [`Listener::recv`] or [`NotificationRef::to_owned`], is a copy. Up to 79 bytes of channel
//!   and payload, it needs no allocation.
//!
//! # Parts without I/O
//!
//! With the feature `proto`, the module `proto` contains the parts that do no I/O: the codec, the session, the supervisor
//! and the ring, for other runtimes, fuzzing and simulation. They build without the default features, and are outside of
//! semantic versioning.
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
//! | `blocking` | | `blocking`: connections, listeners and notifiers for threads without async |
//! | `tracing` | | log events of a [`Listener`], a [`Hub`], [`Wakeups`] or a [`Notifier`], and a span `connect` for each attempt |
//! | `metrics` | | the statistics of a [`Listener`] or a [`Hub`] as counters and gauges: [`Stats`] |
//! | `json` | | payloads of JSON as values of your types, by serde |
//! | `proto` | | `proto`: the parts without I/O, outside of semantic versioning |
//! | `testing` | | `testing`: a scripted server, and a backend with real LISTEN and NOTIFY, for tests; includes `proto` |
//!
//! # Log and metrics
//!
//! With the feature `tracing`, the log events of a listener are in a span `pgbell_listener` with the fields `id` and
//! `application`, those of a hub in a span `pgbell_hub` with the same fields, those of wake-ups in `pgbell_wakeups`. They report sessions that are established, lost
//! and handed over, attempts that fail, hooks that fail, and the end of the listener or the hub. A notifier logs the first
//! [nudge](Notifier::nudge) that is dropped.
//!
//! With the feature `metrics`, the [`Stats`] of a listener, and those of the connection of a hub, are counters and gauges. The
//! documentation of [`Stats`] lists their names.

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
