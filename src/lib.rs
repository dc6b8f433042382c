//! PostgreSQL LISTEN/NOTIFY client that speaks the wire protocol itself.
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
//! | [`Connection`] | whoever waits on it reads the socket; views straight from the receive buffer | one loop that does nothing else, at the speed of the socket; queries beside |
//! | [`Notifier`] | many tasks send over one connection, pipelined | to send |
//!
//! # What is promised
//!
//! While a session lives, every notification that the server writes to it is delivered once and in the
//! server's order, or is part of a reported loss: [`Lagged`] counts exactly what a full queue dropped, a
//! [`Gap`] says where the server may have sent what could not be received. Every way to receive carries
//! both. [`Listener::listen`] returns after the server has committed it: what is committed from then on
//! arrives. PostgreSQL keeps no notification for a session that is gone: after a loss, read the state again.
//!
//! Memory is bounded, whatever a server sends; no length that it announces is allocated. Nothing that it
//! sends panics, and no error or `Debug` text shows a secret.
//!
//! A [`Listener`] whose session is lost comes back by itself, listens to everything again, and tells a [`Gap`] in
//! its place; [`on_live`](ListenerBuilder::on_live) reads the state before anything later is delivered.
//!
//! # Lent, kept, owned
//!
//! - A [`Batch`] is lent from the receive buffer: nothing is copied, and it is over with the next call.
//! - [`Batch::share`] and [`NotificationRef::retain`] keep what was lent, on any thread and for as long as they
//!   like, by keeping its buffer. Buffers are counted ([`Stats::pinned_bytes`]) and capped
//!   ([`ListenerBuilder::pin_limit_bytes`]); beyond that, and where it is cheaper, they copy.
//! - A [`Notification`], from [`Listener::recv`] or [`NotificationRef::to_owned`], is a copy: without an
//!   allocation up to 79 bytes of channel and payload.
//!
//! # Parts without I/O
//!
//! With the feature `proto`, the module `proto` has the parts that do no I/O: the codec, the session, the supervisor and the ring, for
//! other runtimes, fuzzing and simulation. They build without the default features, and are outside of semantic versioning.
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `tokio` | yes | everything that opens a socket |
//! | `saslprep` | yes | SCRAM with passwords beyond ASCII |
//! | `tls-ring` | yes | TLS by rustls, with the cryptography of ring |
//! | `tls-aws-lc-rs` | | TLS by rustls, with that of AWS-LC: post-quantum key exchange, FIPS |
//! | `tls` | | TLS by rustls, with the provider that the process has installed |
//! | `tracing` | | events of a [`Listener`], and a span `connect` for each attempt |
//! | `metrics` | | the statistics of a [`Listener`] as counters and gauges: [`Stats`] |
//! | `proto` | | `proto`: the parts without I/O, outside of semantic versioning |
//! | `testing` | | `testing`: a scripted server, and a backend with real LISTEN and NOTIFY, for tests |
//!
//! # Log and metrics
//!
//! With the feature `tracing`, the events of a listener are in a span `pgbell_listener` with the fields `id` and `application`:
//! sessions that are established, lost and handed over, attempts that fail, hooks that fail, the end.
//!
//! With the feature `metrics`, the [`Stats`] of a listener are counters and gauges. Their names are in its documentation.

#![cfg_attr(docsrs, feature(doc_cfg))]

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
    reason = "what is public in it is for the feature `proto`"
)]
mod proto;

#[cfg(feature = "tokio")]
mod connection;
#[cfg(feature = "tokio")]
mod listener;
#[cfg(feature = "tokio")]
mod net;
#[cfg(feature = "tokio")]
mod notifier;
#[cfg(feature = "testing")]
pub mod testing;

pub use config::{Config, DeliveryProof};
#[cfg(feature = "tokio")]
pub use connection::Connection;
pub use error::{Error, ErrorKind};
#[cfg(feature = "tokio")]
pub use listener::{Listener, ListenerBuilder, ListenerHandle, Stats};
#[cfg(feature = "tokio")]
pub use net::PasswordRequest;
pub use notification::{
    Batch, BatchIter, Event, Gap, Lagged, Loss, Notification, NotificationRef, SharedBatch,
};
#[cfg(feature = "tokio")]
pub use notifier::{Notifier, NotifierBuilder};
pub use proto::auth::AuthMethod;
pub use proto::session::{Column, Row, Rows};
pub use proto::supervisor::{ChannelState, Listening, Live, Overflow, State};
pub use proto::wire::{DbError, TransactionStatus};

/// The code in the README is compiled.
#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;
