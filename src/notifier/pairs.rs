//! Many notifications as the parameters of one statement.

use crate::{Error, ErrorKind, wire};

/// Most bytes of both arrays together: what a Bind message can hold, and room for the rest of it.
const PAIRS_BYTES_MAX: usize = wire::limits::FRONTEND_LARGE_FRAME_BYTES_MAX as usize - 1_024;

/// Channels and payloads: two arrays of the same length, in order.
pub(super) struct Pairs {
    channels: ArrayLiteral,
    payloads: ArrayLiteral,
    count: u64,
    bytes_max: usize,
}

impl Pairs {
    pub(super) fn new() -> Self {
        Self {
            channels: ArrayLiteral::new(),
            payloads: ArrayLiteral::new(),
            count: 0,
            bytes_max: PAIRS_BYTES_MAX,
        }
    }

    /// Adds one pair.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] for a channel or a payload that cannot be sent, and as soon as all of them
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
                    "the first {} notifications are longer than one message can be, {} bytes",
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

    /// Of both arrays.
    pub(super) fn bytes(&self) -> usize {
        self.channels.0.len().saturating_add(self.payloads.0.len())
    }

    /// The arrays in their text form.
    pub(super) fn finish(self) -> (String, String) {
        (self.channels.finish(), self.payloads.finish())
    }
}

/// A `text[]` in its text form: `{"a","b"}`. It is a bound parameter, never part of a statement.
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

    /// An iterator may be without end.
    #[test]
    fn pairs_beyond_one_message_are_refused_before_they_fill_memory() {
        let mut pairs = Pairs { bytes_max: 1_000, ..Pairs::new() };
        let error = std::iter::repeat(("channel", "payload"))
            .find_map(|(channel, payload)| pairs.push(channel, payload).err())
            .unwrap();
        assert_eq!(error.kind(), ErrorKind::Misuse);
        assert!(error.to_string().contains("1000 bytes"), "{error}");
        assert!(pairs.bytes() < 1_100 && pairs.count() == 51, "{}", pairs.count());
    }
}
