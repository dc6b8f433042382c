//! The codec of PostgreSQL's frontend/backend protocol, in both directions, on byte slices.
//!
//! ```text
//! bytes of the server --Framer::next--> Frame --BackendMessage::decode--> BackendMessage
//!      \--notification::scan--> Run --notification::frames--> RawNotification   (the hot path)
//! FrontendMessage, StartupPacket --encode--> bytes for the server
//! ```
//!
//! Every message has `decode` and `encode`, so that a server can be written with the same types as a client. Decoding
//! borrows from the input and copies nothing. Encoding appends to the caller's [`BytesMut`](bytes::BytesMut). If it fails,
//! the buffer is unchanged.
//!
//! | module | contents |
//! |---|---|
//! | [`limits`] | every limit, with unit and origin |
//! | [`tags`] | the name, the minimum and the maximum length of each message type |
//! | [`framer`] | splits a stream into [`Frame`] and [`FirstPacket`] |
//! | [`backend`], [`frontend`], [`startup`] | the messages |
//! | [`list`] | rows, columns, parameters inside them |
//! | [`diagnostic`] | ErrorResponse and NoticeResponse, [`DbError`] |
//! | [`notification`] | runs of consecutive NotificationResponse messages |
//! | [`mod@extract`] | removes single notifications from a run |
//! | [`quote`] | quoted identifiers, checks of channel and payload |
//! | [`cursor`], [`escape`] | bounded reads, writes with a length word, safe display |
//!
//! The codec has no state and does not check the order of messages (the session does). It reads no socket, has no buffer,
//! and does not interpret the values of a row. It checks UTF-8 only for notifications and for strings of a client. It does
//! not support replication. Of protocol 2 it recognizes only errors.

pub mod authentication;
pub mod backend;
mod beginning;
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
#[allow(unused_imports, reason = "only a hub uses it")]
pub(crate) use beginning::Beginning;
pub use diagnostic::{DbError, Diagnostic, Severity};
pub use error::{DecodeError, DecodeFault, EncodeError};
pub use extract::extract;
pub use framer::{FirstPacket, Frame, Framer, LongMessage};
pub use frontend::{FrontendMessage, PasswordMessage, SaslInitialResponse, SaslResponse, Target};
pub use list::{ColumnDescription, Columns, Formats, List, Names, Oids, StartupParameters, Values};
#[allow(unused_imports, reason = "only a hub uses it")]
pub use notification::{Notifications, RawNotification, Run, Stop, first, frames, scan};
pub(crate) use notification::{SHORT_BYTES, ShortFrame};
#[allow(unused_imports, reason = "only a hub uses them")]
pub(crate) use notification::{TEXT_AT, frame_bytes};
pub use parts::{BackendKeyData, CopyResponse, TransactionStatus};
pub use quote::{ChannelError, PayloadError, check_channel, check_payload, quote_identifier};
pub use startup::StartupPacket;
pub use version::ProtocolVersion;
