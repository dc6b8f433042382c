//! The codec of PostgreSQL's frontend/backend protocol, both directions, on byte slices.
//!
//! ```text
//! bytes of the server --Framer::next--> Frame --BackendMessage::decode--> BackendMessage
//!      \--notification::scan--> Run --notification::frames--> RawNotification   (the hot path)
//! FrontendMessage, StartupPacket --encode--> bytes for the server
//! ```
//!
//! Every message has both halves, `decode` and `encode`, so that a server can be written with the
//! same types as a client. Decoding borrows from the input and copies nothing; encoding appends to
//! the caller's [`BytesMut`](bytes::BytesMut) and leaves it as it was when it fails.
//!
//! | module | holds |
//! |---|---|
//! | [`limits`] | every limit, with unit and origin |
//! | [`tags`] | type byte → name, shortest and longest length |
//! | [`framer`] | stream → [`Frame`], [`FirstPacket`] |
//! | [`backend`], [`frontend`], [`startup`] | the messages |
//! | [`list`] | rows, columns, parameters inside them |
//! | [`diagnostic`] | ErrorResponse and NoticeResponse, [`DbError`] |
//! | [`notification`] | runs of NotificationResponse, without a message type in between |
//! | [`mod@extract`] | single notifications taken out of a run |
//! | [`quote`] | quoted identifiers, limits of channel and payload |
//! | [`cursor`], [`escape`] | bounded reading, writing with the length filled in, safe display |
//!
//! What the codec does not do: it has no state and knows no order of messages (the session does),
//! reads no socket, holds no buffer, interprets no value of a row, checks no encoding but that of
//! strings a client sent, and does not speak replication or protocol 2 beyond recognising its errors.

pub mod authentication;
pub mod backend;
pub(crate) mod buffer;
#[cfg(test)]
mod catalogue;
pub mod cursor;
pub mod diagnostic;
pub mod error;
pub mod escape;
pub mod extract;
pub mod framer;
pub mod frontend;
pub mod limits;
pub mod list;
pub mod notification;
mod parts;
pub mod quote;
pub mod startup;
pub mod tags;
mod version;

pub use authentication::{Authentication, SaslMechanisms};
pub use backend::BackendMessage;
pub use diagnostic::{DbError, Diagnostic, Severity};
pub use error::{DecodeError, DecodeFault, EncodeError};
pub use extract::extract;
pub use framer::{FirstPacket, Frame, Framer, LongMessage};
pub use frontend::{FrontendMessage, PasswordMessage, SaslInitialResponse, SaslResponse, Target};
pub use list::{Column, Columns, Formats, List, Names, Oids, StartupParameters, Values};
pub(crate) use notification::TEXT_AT;
pub use notification::{Notifications, RawNotification, Run, Stop, first, frames, scan};
pub use parts::{BackendKeyData, CopyResponse, TransactionStatus};
pub use quote::{ChannelError, PayloadError, check_channel, check_payload, quote_identifier};
pub use startup::StartupPacket;
pub use version::ProtocolVersion;
