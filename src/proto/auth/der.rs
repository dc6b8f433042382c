//! A reader for the part of DER that certificates use: nested values, each with a tag, a length and contents.
//!
//! The input comes from a peer that is not trusted yet. A malformed value is `None`; nothing is
//! allocated, and each call reads one header only.

/// Tags of the universal types that certificates are made of.
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;

    /// Returns the tag of `[number]` around another value.
    pub(crate) const fn explicit(number: u8) -> u8 {
        0xa0 | number
    }

    /// Returns the tag of `[number]` in place of the tag of a primitive value.
    pub(crate) const fn implicit(number: u8) -> u8 {
        0x80 | number
    }
}

/// One value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value<'a> {
    pub(crate) tag: u8,
    /// The bytes after the header.
    pub(crate) contents: &'a [u8],
    /// All bytes, with the header.
    pub(crate) whole: &'a [u8],
}

impl<'a> Value<'a> {
    /// Returns a reader of the values in the contents.
    pub(crate) fn values(self) -> Reader<'a> {
        Reader::new(self.contents)
    }
}

/// A reader of consecutive values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Reads the next value, of any type.
    pub(crate) fn any(&mut self) -> Option<Value<'a>> {
        let (&tag, after_tag) = self.rest.split_first()?;
        // A tag of more than one byte. Certificates have none.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, after_length) = length(after_tag)?;
        let (contents, rest) = after_length.split_at_checked(length)?;
        let whole = self.rest.get(..self.rest.len().checked_sub(rest.len())?)?;
        self.rest = rest;
        Some(Value { tag, contents, whole })
    }

    /// Reads the next value if it is of this type. Otherwise nothing is consumed.
    pub(crate) fn of(&mut self, tag: u8) -> Option<Value<'a>> {
        let mut after = *self;
        let value = after.any().filter(|value| value.tag == tag)?;
        *self = after;
        Some(value)
    }

    /// Returns whether no byte is left.
    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Reads the single value that `bytes` consist of.
pub(crate) fn single(bytes: &[u8], tag: u8) -> Option<Value<'_>> {
    let mut reader = Reader::new(bytes);
    reader.of(tag).filter(|_| reader.is_empty())
}

/// Reads a length, in its only valid form of DER. Returns it and the bytes after it.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        return Some((usize::from(first), rest));
    }
    // 0x80 is the indefinite form of BER. A length of four bytes is more than a TLS message can hold.
    let count = usize::from(first & 0x7f);
    let (digits, rest) = rest.split_at_checked(count)?;
    if !(1..=4).contains(&count) || digits.first() == Some(&0) {
        return None;
    }
    let length = digits.iter().fold(0u32, |sum, &digit| (sum << 8) | u32::from(digit));
    (length >= 0x80).then_some((usize::try_from(length).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_has_only_one_valid_form() {
        let long = [&[0x04, 0x81, 0x80][..], &[7; 0x80]].concat();
        assert_eq!(single(&long, tag::OCTET_STRING).unwrap().contents, [7; 0x80]);
        let longer = [&[0x04, 0x82, 0x01, 0x00][..], &[7; 0x100]].concat();
        assert_eq!(single(&longer, tag::OCTET_STRING).unwrap().whole, longer);
        for wrong in [
            &[][..],
            &[0x04],
            &[0x04, 1],
            &[0x04, 0x80],
            &[0x04, 0x80, 0, 0],
            &[0x04, 0x81, 1, 7],
            &[0x04, 0x82, 0, 0x80],
            &[0x04, 0x85, 0, 0, 0, 0, 0],
            &[0x04, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x04, 0xff],
            &[0x1f, 1, 0],
            &[0xbf, 0x81, 0, 0],
        ] {
            assert_eq!(Reader::new(wrong).any(), None, "{wrong:x?}");
        }
    }

    #[test]
    fn a_value_of_another_type_is_not_consumed() {
        let mut reader = Reader::new(&[0x02, 1, 5, 0x30, 2, 0x02, 0]);
        assert_eq!(reader.of(tag::SEQUENCE), None);
        assert_eq!(reader.of(tag::INTEGER).unwrap().contents, [5]);
        let sequence = reader.of(tag::SEQUENCE).unwrap();
        assert_eq!(sequence.values().any().unwrap().whole, [0x02, 0]);
        assert!(reader.is_empty());
        assert_eq!(single(&[0x02, 1, 5, 0], tag::INTEGER), None);
    }
}
