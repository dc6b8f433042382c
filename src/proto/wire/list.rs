//! Lists inside messages: parameter types, values, columns, names.
//!
//! One type is used for both directions. A message is encoded from a slice of the caller, and decoded from the received
//! bytes, without a `Vec`.

use std::fmt;

use super::cursor::{Body, BodyReader};
use super::error::{DecodeError, EncodeError};
use super::escape::EscapedBytes;

/// The maximum number of elements that `Debug` shows.
const SHOWN_MAX: usize = 16;

/// Type OIDs of Parse and ParameterDescription.
pub type Oids<'a> = List<'a, u32>;
/// Values of Bind and DataRow. `None` is NULL.
pub type Values<'a> = List<'a, Option<&'a [u8]>>;
/// Columns of RowDescription.
pub type Columns<'a> = List<'a, ColumnDescription<'a>>;
/// Formats of Bind and of the Copy responses: 0 text, 1 binary.
pub type Formats<'a> = List<'a, i16>;
/// Option names of NegotiateProtocolVersion.
pub type Names<'a> = List<'a, &'a [u8]>;
/// Names and values of StartupMessage.
pub type StartupParameters<'a> = List<'a, (&'a str, &'a str)>;

/// A list that is borrowed from a slice of the caller or from the body of a message.
///
/// `decode` has checked the elements of a received message, so the iteration cannot fail.
/// Two lists are equal if their elements are equal.
#[derive(Clone, Copy)]
pub struct List<'a, T>(Repr<'a, T>);

#[derive(Clone, Copy)]
enum Repr<'a, T> {
    Given(&'a [T]),
    /// `raw` contains exactly `count` elements, each of which [`ListItem::read`] accepted.
    Wire {
        count: usize,
        raw: &'a [u8],
    },
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for i16 {}
    impl Sealed for &[u8] {}
    impl Sealed for Option<&[u8]> {}
    impl Sealed for (&str, &str) {}
    impl Sealed for super::ColumnDescription<'_> {}
}

/// An element of a [`List`]. This trait is sealed.
pub trait ListItem<'a>: Copy + PartialEq + sealed::Sealed {
    #[doc(hidden)]
    fn read(reader: &mut BodyReader<'a>) -> Result<Self, DecodeError>;
    #[doc(hidden)]
    fn write(&self, body: &mut Body<'_>) -> Result<(), EncodeError>;
    #[doc(hidden)]
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

impl<'a, T: ListItem<'a>> List<'a, T> {
    /// Creates a list of the elements of a slice.
    #[must_use]
    pub const fn new(items: &'a [T]) -> Self {
        Self(Repr::Given(items))
    }

    /// Reads and checks `count` elements.
    pub(crate) fn read(reader: &mut BodyReader<'a>, count: usize) -> Result<Self, DecodeError> {
        let whole = reader.remaining();
        for _ in 0..count {
            T::read(reader)?;
        }
        let length = whole.len().saturating_sub(reader.remaining().len());
        Ok(Self(Repr::Wire { count, raw: whole.get(..length).unwrap_or_default() }))
    }

    pub(crate) fn write(&self, body: &mut Body<'_>) -> Result<(), EncodeError> {
        match self.0 {
            Repr::Given(items) => items.iter().try_for_each(|item| item.write(body)),
            Repr::Wire { raw, .. } => body.bytes(raw),
        }
    }

    /// Returns the number of elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.0 {
            Repr::Given(items) => items.len(),
            Repr::Wire { count, .. } => count,
        }
    }

    /// Returns whether the list is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns an iterator over the elements, in order.
    #[must_use]
    pub fn iter(&self) -> Iter<'a, T> {
        Iter(match self.0 {
            Repr::Given(items) => Cursor::Given(items.iter()),
            Repr::Wire { count, raw } => {
                Cursor::Wire { count, reader: BodyReader::new("List", raw) }
            }
        })
    }
}

/// Iterator over the elements of a [`List`].
#[derive(Clone)]
pub struct Iter<'a, T>(Cursor<'a, T>);

#[derive(Clone)]
enum Cursor<'a, T> {
    Given(std::slice::Iter<'a, T>),
    Wire { count: usize, reader: BodyReader<'a> },
}

impl<'a, T: ListItem<'a>> Iterator for Iter<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match &mut self.0 {
            Cursor::Given(items) => items.next().copied(),
            Cursor::Wire { count, reader } => {
                *count = count.checked_sub(1)?;
                T::read(reader).ok()
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            Cursor::Given(items) => items.len(),
            Cursor::Wire { count, .. } => *count,
        };
        (left, Some(left))
    }
}

impl<'a, T: ListItem<'a>> ExactSizeIterator for Iter<'a, T> {}

impl<T> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}

impl<'a, T: ListItem<'a>> IntoIterator for List<'a, T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<'a, T: ListItem<'a>> IntoIterator for &List<'a, T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<'a, T: ListItem<'a>> From<&'a [T]> for List<'a, T> {
    fn from(items: &'a [T]) -> Self {
        Self::new(items)
    }
}

impl<'a, T: ListItem<'a>, const N: usize> From<&'a [T; N]> for List<'a, T> {
    fn from(items: &'a [T; N]) -> Self {
        Self::new(items)
    }
}

impl<'a, T: ListItem<'a>> PartialEq for List<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<'a, T: ListItem<'a> + Eq> Eq for List<'a, T> {}

impl<'a, T: ListItem<'a>> fmt::Debug for List<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct ShownList<T>(T);
        impl<'a, T: ListItem<'a>> fmt::Debug for ShownList<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.show(f)
            }
        }
        let mut list = f.debug_list();
        list.entries(self.iter().take(SHOWN_MAX).map(ShownList));
        if self.len() > SHOWN_MAX { list.finish_non_exhaustive() } else { list.finish() }
    }
}

impl<'a> ListItem<'a> for u32 {
    fn read(reader: &mut BodyReader<'a>) -> Result<Self, DecodeError> {
        reader.u32("type OID")
    }
    fn write(&self, body: &mut Body<'_>) -> Result<(), EncodeError> {
        body.u32(*self)
    }
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl<'a> ListItem<'a> for i16 {
    fn read(reader: &mut BodyReader<'a>) -> Result<Self, DecodeError> {
        reader.i16("format")
    }
    fn write(&self, body: &mut Body<'_>) -> Result<(), EncodeError> {
        body.i16(*self)
    }
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl<'a> ListItem<'a> for &'a [u8] {
    fn read(reader: &mut BodyReader<'a>) -> Result<Self, DecodeError> {
        reader.cstr("name")
    }
    fn write(&self, body: &mut Body<'_>) -> Result<(), EncodeError> {
        body.cstr("name", self)
    }
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", EscapedBytes(self))
    }
}

impl<'a> ListItem<'a> for Option<&'a [u8]> {
    fn read(reader: &mut BodyReader<'a>) -> Result<Self, DecodeError> {
        // -1 is NULL, any other negative length is not valid. Q6, N11.
        match reader.i32("value length")? {
            -1 => Ok(None),
            length => {
                let bytes = usize::try_from(length)
                    .map_err(|_| reader.bad_value("value length", "-1 or more", length.into()))?;
                reader.bytes("value", bytes).map(Some)
            }
        }
    }

    fn write(&self, body: &mut Body<'_>) -> Result<(), EncodeError> {
        let Some(value) = self else { return body.i32(-1) };
        match i32::try_from(value.len()) {
            Ok(length) => body.i32(length)?,
            // Longer than every limit: `bytes` below returns an error before it copies.
            Err(_) => body.i32(i32::MAX)?,
        }
        body.bytes(value)
    }

    /// Shows only the length, because values are the user's data.
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Some(value) => write!(f, "{} bytes", value.len()),
            None => f.write_str("NULL"),
        }
    }
}

impl<'a> ListItem<'a> for (&'a str, &'a str) {
    fn read(reader: &mut BodyReader<'a>) -> Result<Self, DecodeError> {
        Ok((reader.utf8("parameter name")?, reader.utf8("parameter value")?))
    }

    fn write(&self, body: &mut Body<'_>) -> Result<(), EncodeError> {
        // In the message, an empty name is the end of the list: N7.
        if self.0.is_empty() {
            return Err(body.bad_value("parameter name", "one character or more"));
        }
        body.cstr("parameter name", self.0.as_bytes())?;
        body.cstr("parameter value", self.1.as_bytes())
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:?}", self.0, self.1)
    }
}

/// One column of a RowDescription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnDescription<'a> {
    /// The column's name, in the client encoding.
    pub name: &'a [u8],
    /// The OID of its table, or 0 if it does not come from a table.
    pub table_oid: u32,
    /// Its attribute number in that table, or 0.
    pub attribute_number: i16,
    /// The OID of its type.
    pub type_oid: u32,
    /// The size of its type in bytes. A negative number means a variable size.
    pub type_size: i16,
    /// The type modifier, -1 for none.
    pub type_modifier: i32,
    /// The format: 0 text, 1 binary.
    pub format: i16,
}

impl<'a> ColumnDescription<'a> {
    /// Creates a column of type text that does not come from a table, as for an expression.
    #[must_use]
    pub const fn text(name: &'a [u8]) -> Self {
        Self {
            name,
            table_oid: 0,
            attribute_number: 0,
            type_oid: 25,
            type_size: -1,
            type_modifier: -1,
            format: 0,
        }
    }
}

impl<'a> ListItem<'a> for ColumnDescription<'a> {
    fn read(reader: &mut BodyReader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: reader.cstr("column name")?,
            table_oid: reader.u32("table OID")?,
            attribute_number: reader.i16("attribute number")?,
            type_oid: reader.u32("type OID")?,
            type_size: reader.i16("type size")?,
            type_modifier: reader.i32("type modifier")?,
            format: reader.i16("format")?,
        })
    }

    fn write(&self, body: &mut Body<'_>) -> Result<(), EncodeError> {
        body.cstr("column name", self.name)?;
        body.u32(self.table_oid)?;
        body.i16(self.attribute_number)?;
        body.u32(self.type_oid)?;
        body.i16(self.type_size)?;
        body.i32(self.type_modifier)?;
        body.i16(self.format)
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" type {}", EscapedBytes(self.name), self.type_oid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoded_list_equals_the_slice_that_was_encoded() {
        let raw = [0, 0, 0, 2, b'h', b'i', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 7];
        let mut reader = BodyReader::new("DataRow", &raw);
        let values = Values::read(&mut reader, 3).unwrap();
        assert_eq!(reader.remaining(), [7]);
        assert_eq!(values, List::new(&[Some(&b"hi"[..]), None, Some(&b""[..])]));
        assert_eq!(values.iter().len(), 3);
        assert_ne!(values, List::new(&[Some(&b"hi"[..])]));
        assert_eq!(format!("{values:?}"), "[2 bytes, NULL, 0 bytes]");
    }

    #[test]
    fn value_lengths_below_minus_one_or_above_the_body_are_refused() {
        for raw in [[0xff, 0xff, 0xff, 0xfe], [0, 0, 0, 1], [0x7f, 0xff, 0xff, 0xff]] {
            assert!(Values::read(&mut BodyReader::new("DataRow", &raw), 1).is_err(), "{raw:?}");
        }
    }
}
