//! Several notifications as the parameters of one statement.

use crate::error::{Error, ErrorKind};
use crate::proto::wire;

/// The largest size of both arrays together: that of a Bind message, less its other fields.
const GROUP_BYTES_MAX: usize = wire::limits::FRONTEND_LARGE_FRAME_BYTES_MAX as usize - 1_024;

/// The notifications of one transaction, in order: an array of channels and an array of payloads, of the same length.
pub(super) struct Group {
    channels: ArrayLiteral,
    payloads: ArrayLiteral,
    count: u64,
    bytes_max: usize,
}

impl Group {
    pub(super) fn new() -> Self {
        Self {
            channels: ArrayLiteral::new(),
            payloads: ArrayLiteral::new(),
            count: 0,
            bytes_max: GROUP_BYTES_MAX,
        }
    }

    /// Adds one notification.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] for a channel or a payload that cannot be sent, and as soon as all notifications
    /// together are too long for one message.
    pub(super) fn push(&mut self, channel: &str, payload: &str) -> Result<(), Error> {
        wire::check_channel(channel)?;
        wire::check_payload(payload)?;
        self.channels.push(channel);
        self.payloads.push(payload);
        self.count += 1;
        if self.bytes() > self.bytes_max {
            return Err(Error::new(
                ErrorKind::Misuse,
                format!(
                    "the first {} notifications are longer than the longest message, {} bytes",
                    self.count, self.bytes_max
                ),
            )
            .with_hint("send them in several calls"));
        }
        Ok(())
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Returns the size of both arrays together.
    pub(super) fn bytes(&self) -> usize {
        self.channels.0.len().saturating_add(self.payloads.0.len())
    }

    /// Returns the arrays of channels and payloads in text format.
    pub(super) fn finish(self) -> (String, String) {
        (self.channels.finish(), self.payloads.finish())
    }
}

/// A `text[]` in text format: `{"a","b"}`. It is a bound parameter, never part of a statement.
struct ArrayLiteral(String);

impl ArrayLiteral {
    fn new() -> Self {
        Self("{".to_owned())
    }

    fn push(&mut self, element: &str) {
        self.0.push_str(if self.0.len() > 1 { ",\"" } else { "\"" });
        for c in element.chars() {
            if matches!(c, '"' | '\\') {
                self.0.push('\\');
            }
            self.0.push(c);
        }
        self.0.push('"');
    }

    fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn array_elements_are_always_quoted_and_escaped() {
        let mut array = ArrayLiteral::new();
        for element in ["a", "", "NULL", "q\"b\\s", "{,}", " \n"] {
            array.push(element);
        }
        assert_eq!(array.finish(), r#"{"a","","NULL","q\"b\\s","{,}"," "#.to_owned() + "\n\"}");
    }

    /// An iterator may be infinite.
    #[test]
    fn a_group_that_is_longer_than_one_message_is_refused_before_it_fills_the_memory() {
        let mut group = Group { bytes_max: 1_000, ..Group::new() };
        let error = std::iter::repeat(("channel", "payload"))
            .find_map(|(channel, payload)| group.push(channel, payload).err())
            .unwrap();
        let hint = Some("send them in several calls");
        assert_eq!((error.kind(), error.hint()), (ErrorKind::Misuse, hint));
        assert!(error.to_string().contains("1000 bytes"), "{error}");
        assert!(group.bytes() < 1_100 && group.count() == 51, "{}", group.count());
    }
}
