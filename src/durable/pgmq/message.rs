//! [`Message`]: a message of a queue.

use std::fmt;
use std::time::SystemTime;

use crate::durable::record::time;
use crate::durable::refusal::malformed;
use crate::error::Error;
use crate::proto::session::{Row, Rows};

/// The columns of a message, in the order in which they are parsed.
pub(super) const MESSAGE_COLUMNS: &str = "msg_id, read_ct, (extract(epoch FROM enqueued_at) * 1000000)::bigint, (extract(epoch FROM vt) * 1000000)::bigint, message::text, headers::text";

/// A message of a queue, as [`Queue::read`](super::Queue::read) returns it.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    pub(super) msg_id: i64,
    pub(super) read_count: u32,
    pub(super) enqueued_at: SystemTime,
    pub(super) visible_at: SystemTime,
    pub(super) message: String,
    pub(super) headers: Option<String>,
}

impl Message {
    /// Returns the id. Ids ascend in the order of the calls of `send`.
    #[must_use]
    pub fn msg_id(&self) -> i64 {
        self.msg_id
    }

    /// Returns how often the message was read, this time included. It is zero after [`Queue::pop`](super::Queue::pop) of a message that was never
    /// read.
    #[must_use]
    pub fn read_count(&self) -> u32 {
        self.read_count
    }

    /// Returns when it was sent, by the clock of the server.
    #[must_use]
    pub fn enqueued_at(&self) -> SystemTime {
        self.enqueued_at
    }

    /// Returns until when no other read returns it, by the clock of the server.
    #[must_use]
    pub fn visible_at(&self) -> SystemTime {
        self.visible_at
    }

    /// Returns the message, JSON as text. A message that is NULL in SQL is `null`.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Decodes the message from JSON.
    ///
    /// # Errors
    /// If it is not JSON of this type.
    #[cfg(feature = "json")]
    pub fn json<'a, T: serde_core::Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.message)
    }

    /// Returns the headers, JSON as text, if the sender set any.
    #[must_use]
    pub fn headers(&self) -> Option<&str> {
        self.headers.as_deref()
    }

    /// Parses the rows of a statement with [`MESSAGE_COLUMNS`].
    pub(super) fn from_rows(rows: &Rows) -> Result<Vec<Self>, Error> {
        rows.iter().map(|row| Self::from_row(row).ok_or_else(malformed)).collect()
    }

    pub(super) fn from_row(row: Row<'_>) -> Option<Self> {
        let micros = |column| row.get(column)?.parse().ok();
        Some(Self {
            msg_id: row.get(0)?.parse().ok()?,
            read_count: row.get(1)?.parse().ok()?,
            enqueued_at: time(micros(2)?),
            visible_at: time(micros(3)?),
            message: row.get(4).unwrap_or("null").to_owned(),
            headers: row.get(5).map(str::to_owned),
        })
    }
}

/// Shows the numbers and the sizes, because the rest is data of the application.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("msg_id", &self.msg_id)
            .field("read_count", &self.read_count)
            .field("message_len", &self.message.len())
            .field("headers_len", &self.headers.as_deref().map(str::len))
            .finish_non_exhaustive()
    }
}
