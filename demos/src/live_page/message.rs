//! [`Message`]: what a browser receives, as JSON, by server-sent events and by WebSocket.

use serde::Serialize;

/// One message to a browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Message {
    /// The first one of each connection. `continued`: it follows the last one of the connection before, and none is missing.
    Ready {
        /// See above.
        continued: bool,
    },
    /// A notification.
    Message {
        /// Its payload, without the topic.
        text: String,
    },
    /// Messages may be missing here: a page that shows data reads all of it again.
    Reload {
        /// The text of the loss.
        reason: String,
    },
    /// The state of the connection to the database.
    Database {
        /// `connected`, `reconnecting` or `closed`.
        state: &'static str,
    },
    /// The last one: the server ends.
    Goodbye {
        /// Why.
        reason: String,
    },
}

impl Message {
    /// Returns the name of the event.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Ready { .. } => "ready",
            Self::Message { .. } => "message",
            Self::Reload { .. } => "reload",
            Self::Database { .. } => "database",
            Self::Goodbye { .. } => "goodbye",
        }
    }
}

/// A message with its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Numbered {
    /// Names the subscription and the position in its feed.
    pub id: String,
    /// The message.
    #[serde(flatten)]
    pub message: Message,
}

impl Numbered {
    /// Returns the JSON text: one line.
    ///
    /// # Panics
    /// Never: every part is text or a truth value.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("text and truth values have a form in JSON")
    }
}
