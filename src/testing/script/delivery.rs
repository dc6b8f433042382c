//! The pieces in which the bytes of a script are written.

use std::time::Duration;

/// The pieces in which the bytes of a script are written.
///
/// The reader must come to the same result with any of them: run a case with each of [`all`](Self::all).
///
/// ```
/// use pgbell::testing::Delivery;
///
/// for delivery in Delivery::all(3) {
///     let pieces: Vec<&[u8]> = delivery.pieces(0, b"abc").collect();
///     assert_eq!(pieces.concat(), b"abc", "{delivery:?}");
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Delivery {
    /// Each step in one write.
    #[default]
    Whole,
    /// Each byte in a write of its own.
    ByteByByte,
    /// Like `Whole`, with one break after this number of bytes of all that is sent.
    SplitAt(usize),
    /// Like `ByteByByte`, with a pause of this length before each byte.
    ByteEvery(Duration),
}

impl Delivery {
    /// Returns `Whole`, `ByteByByte`, and a split at every position inside `bytes` bytes.
    pub fn all(bytes: usize) -> impl Iterator<Item = Self> {
        [Self::Whole, Self::ByteByByte].into_iter().chain((1..bytes).map(Self::SplitAt))
    }

    /// Returns the pieces of `bytes`, if `before` bytes were sent earlier.
    pub fn pieces(self, before: usize, bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
        let mut rest = bytes;
        let mut first = match self {
            Self::Whole => bytes.len(),
            Self::ByteByByte | Self::ByteEvery(_) => 1,
            Self::SplitAt(at) => match at.checked_sub(before) {
                Some(at) if at > 0 && at < bytes.len() => at,
                _ => bytes.len(),
            },
        };
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (piece, left) = rest.split_at_checked(first)?;
            rest = left;
            if let Self::Whole | Self::SplitAt(_) = self {
                first = left.len();
            }
            Some(piece)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_contain_all_bytes_and_break_at_the_configured_positions() {
        let pieces = |delivery: Delivery, before| {
            delivery.pieces(before, b"abcd").map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        assert_eq!(pieces(Delivery::Whole, 0), [b"abcd"]);
        assert_eq!(pieces(Delivery::ByteByByte, 9), [b"a", b"b", b"c", b"d"]);
        let slow = Delivery::ByteEvery(Duration::from_secs(1));
        assert_eq!(pieces(slow, 9), [b"a", b"b", b"c", b"d"]);
        assert_eq!(pieces(Delivery::SplitAt(1), 0), [&b"a"[..], b"bcd"]);
        assert_eq!(pieces(Delivery::SplitAt(13), 10), [&b"abc"[..], b"d"]);
        for (at, before) in [(0, 0), (4, 0), (9, 10), (10, 10), (14, 10)] {
            assert_eq!(pieces(Delivery::SplitAt(at), before), [b"abcd"], "{at} {before}");
        }
        assert_eq!(Delivery::Whole.pieces(0, b"").count(), 0);
        assert_eq!(Delivery::all(3).count(), 4);
    }
}
