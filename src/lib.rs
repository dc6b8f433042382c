//! PostgreSQL LISTEN/NOTIFY client that speaks the wire protocol itself.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod auth;
pub mod config;
mod error;
mod notification;
pub mod ring;
pub mod session;
pub mod supervisor;
pub mod wire;

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

pub use config::Config;
#[cfg(feature = "tokio")]
pub use connection::Connection;
pub use error::{Error, ErrorKind};
#[cfg(feature = "tokio")]
pub use listener::{Listener, ListenerBuilder, ListenerHandle, Stats};
pub use notification::{Batch, Event, Gap, Iter, Lagged, Loss, Notification, NotificationRef};
#[cfg(feature = "tokio")]
pub use notifier::Notifier;
pub use session::{Column, Row, Rows};
pub use supervisor::{Listening, Overflow, State};
pub use wire::DbError;
