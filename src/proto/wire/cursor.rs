//! The reader and the writer of message bodies, which all messages use.
//!
//! [`BodyReader`] reads a body. No read goes beyond the body; if the body is too short, the read returns an error.
//! [`Body`] writes a body into the caller's buffer, and the length word last. If anything fails, the buffer is unchanged.

use bytes::{BufMut, BytesMut};

use super::error::{DecodeError, DecodeFault, EncodeError};
use super::limits::in_memory;
use super::tags::Shape;

/// A cursor over the body of one message.
#[derive(Debug, Clone, Copy)]
pub struct BodyReader<'a> {
    message: &'static str,
    /// The bytes that have not been read.
    rest: &'a [u8],
}

impl<'a> BodyReader<'a> {
    /// Creates a reader at the first byte of `body`. Its errors name `message`.
    #[must_use]
    pub const fn new(message: &'static str, body: &'a [u8]) -> Self {
        Self { message, rest: body }
    }

    /// Returns the name of the message in errors.
    #[must_use]
    pub const fn message(&self) -> &'static str {
        self.message
    }

    /// Returns the bytes that have not been read, and does not read them.
    #[must_use]
    pub const fn remaining(&self) -> &'a [u8] {
        self.rest
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.short(field, N));
        };
        self.rest = rest;
        Ok(*head)
    }

    /// Reads one byte.
    ///
    /// # Errors
    /// No byte is left.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    /// Reads two bytes, signed.
    ///
    /// # Errors
    /// Fewer than two bytes are left.
    pub fn i16(&mut self, field: &'static str) -> Result<i16, DecodeError> {
        self.array(field).map(i16::from_be_bytes)
    }

    /// Reads two bytes, unsigned.
    ///
    /// # Errors
    /// Fewer than two bytes are left.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_be_bytes)
    }

    /// Reads four bytes, signed.
    ///
    /// # Errors
    /// Fewer than four bytes are left.
    pub fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_be_bytes)
    }

    /// Reads four bytes, unsigned.
    ///
    /// # Errors
    /// Fewer than four bytes are left.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// Reads a count of two bytes that is not negative.
    ///
    /// # Errors
    /// Fewer than two bytes are left, or the count is negative.
    pub fn count(&mut self, field: &'static str) -> Result<usize, DecodeError> {
        let count = self.i16(field)?;
        usize::try_from(count).map_err(|_| self.bad_value(field, "0 to 32767", count.into()))
    }

    /// Reads `length` bytes.
    ///
    /// # Errors
    /// Fewer bytes are left.
    pub fn bytes(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], DecodeError> {
        let Some((head, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.short(field, length));
        };
        self.rest = rest;
        Ok(head)
    }

    /// Reads a string and its NUL, and returns the string without the NUL.
    ///
    /// # Errors
    /// No NUL is left.
    pub fn cstr(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let end = position_of_nul(self.rest).ok_or_else(|| self.missing_nul(field))?;
        let string = self.bytes(field, end)?;
        self.rest = self.rest.get(1..).unwrap_or_default();
        Ok(string)
    }

    /// Like [`cstr`](Self::cstr), for a string that must be UTF-8.
    ///
    /// # Errors
    /// No NUL is left, or the string is not UTF-8.
    pub fn utf8(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let bytes = self.cstr(field)?;
        std::str::from_utf8(bytes).map_err(|_| {
            let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
            self.bad_value(field, "UTF-8 of that length", length)
        })
    }

    /// Reads all bytes up to the end of the body.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Checks that the whole body has been read.
    ///
    /// # Errors
    /// Bytes are left, so the fields do not match the length word.
    // N5.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(DecodeError::new(self.message, DecodeFault::Leftover { bytes: self.rest.len() }))
    }

    #[cold]
    fn short(&self, field: &'static str, needed: usize) -> DecodeError {
        let available = self.rest.len();
        DecodeError::new(self.message, DecodeFault::ShortBody { field, needed, available })
    }

    #[cold]
    pub(crate) fn missing_nul(&self, field: &'static str) -> DecodeError {
        DecodeError::new(self.message, DecodeFault::MissingNul { field })
    }

    #[cold]
    pub(crate) fn bad_value(
        &self,
        field: &'static str,
        expected: &'static str,
        found: i64,
    ) -> DecodeError {
        DecodeError::bad_value(self.message, field, expected, found)
    }
}

/// Returns the offset of the first NUL. Compares eight bytes at a time.
pub(crate) fn position_of_nul(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let (words, tail) = bytes.as_chunks::<8>();
    let mut before = 0_usize;
    for word in words {
        let word = u64::from_le_bytes(*word);
        // The lowest bit that is set in `zeros` belongs to the first zero byte.
        let zeros = word.wrapping_sub(ONES) & !word & HIGHS;
        if zeros != 0 {
            let within = usize::try_from(zeros.trailing_zeros() / 8).ok()?;
            return before.checked_add(within);
        }
        before = before.checked_add(8)?;
    }
    before.checked_add(tail.iter().position(|&byte| byte == 0)?)
}

/// A writer for the body of one message, at the end of a buffer.
#[derive(Debug)]
pub struct Body<'b> {
    out: &'b mut BytesMut,
    message: &'static str,
    /// The offset of the length word in `out`. The length is counted from here.
    start: usize,
    /// The largest allowed length word, at most `i32::MAX`.
    cap: usize,
}

/// Writes a message with a type byte. After an error `out` is unchanged.
pub(crate) fn tagged(
    out: &mut BytesMut,
    tag: u8,
    shape: Shape,
    fill: impl FnOnce(&mut Body<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    message(out, Some(tag), shape.name, in_memory(shape.most), fill)
}

/// Writes a message without a type byte. After an error `out` is unchanged.
pub(crate) fn untagged(
    out: &mut BytesMut,
    name: &'static str,
    cap: usize,
    fill: impl FnOnce(&mut Body<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    message(out, None, name, cap, fill)
}

fn message(
    out: &mut BytesMut,
    tag: Option<u8>,
    name: &'static str,
    cap: usize,
    fill: impl FnOnce(&mut Body<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let before = out.len();
    let written = write(out, tag, name, cap.min(in_memory(i32::MAX.unsigned_abs())), fill);
    if written.is_err() {
        out.truncate(before);
    }
    written
}

fn write(
    out: &mut BytesMut,
    tag: Option<u8>,
    name: &'static str,
    cap: usize,
    fill: impl FnOnce(&mut Body<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    if let Some(tag) = tag {
        out.put_u8(tag);
    }
    let start = out.len();
    out.put_u32(0);
    let mut body = Body { out, message: name, start, cap };
    fill(&mut body)?;
    let length = body.written();
    let too_long = EncodeError::TooLong { message: name, bytes: length, max: cap };
    let word = i32::try_from(length).map_err(|_| too_long.clone())?;
    match out.get_mut(start..).and_then(|message| message.first_chunk_mut::<4>()) {
        Some(length_word) => *length_word = word.to_be_bytes(),
        None => return Err(too_long),
    }
    Ok(())
}

/// Returns the length after `adding` bytes, or the length as an error if it is above `cap`.
///
/// It is a separate function, so that tests can use sizes that they cannot allocate.
// N10.
fn grown(written: usize, adding: usize, cap: usize) -> Result<usize, usize> {
    match written.checked_add(adding) {
        Some(length) if length <= cap => Ok(length),
        Some(length) => Err(length),
        None => Err(usize::MAX),
    }
}

impl Body<'_> {
    /// Returns the name of the message in errors.
    #[must_use]
    pub fn message(&self) -> &'static str {
        self.message
    }

    fn written(&self) -> usize {
        self.out.len().saturating_sub(self.start)
    }

    /// Writes bytes. The limit is checked before any byte is copied.
    ///
    /// # Errors
    /// The message would be too long.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        if let Err(length) = grown(self.written(), bytes.len(), self.cap) {
            return Err(self.too_long(length));
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes one byte.
    ///
    /// # Errors
    /// The message would be too long.
    pub fn u8(&mut self, value: u8) -> Result<(), EncodeError> {
        self.bytes(&[value])
    }

    /// Writes two bytes.
    ///
    /// # Errors
    /// The message would be too long.
    pub fn i16(&mut self, value: i16) -> Result<(), EncodeError> {
        self.bytes(&value.to_be_bytes())
    }

    /// Writes four bytes.
    ///
    /// # Errors
    /// The message would be too long.
    pub fn i32(&mut self, value: i32) -> Result<(), EncodeError> {
        self.bytes(&value.to_be_bytes())
    }

    /// Writes four bytes.
    ///
    /// # Errors
    /// The message would be too long.
    pub fn u32(&mut self, value: u32) -> Result<(), EncodeError> {
        self.bytes(&value.to_be_bytes())
    }

    /// Writes a count of two bytes, which is not negative if it is read as a signed number.
    ///
    /// # Errors
    /// More than 32,767, or the message would be too long.
    pub fn count(&mut self, field: &'static str, count: usize) -> Result<(), EncodeError> {
        let value = i16::try_from(count).map_err(|_| self.too_many(field, count, 32_767))?;
        self.i16(value)
    }

    /// Writes a count of two bytes, unsigned.
    ///
    /// # Errors
    /// More than 65,535, or the message would be too long.
    pub fn unsigned_count(&mut self, field: &'static str, count: usize) -> Result<(), EncodeError> {
        let value = u16::try_from(count).map_err(|_| self.too_many(field, count, 65_535))?;
        self.bytes(&value.to_be_bytes())
    }

    /// Writes a string and its NUL.
    ///
    /// # Errors
    /// The string contains a NUL, or the message would be too long.
    pub fn cstr(&mut self, field: &'static str, string: &[u8]) -> Result<(), EncodeError> {
        // The length is checked first, so that a string that is too long is not searched.
        if let Err(length) = grown(self.written(), string.len().saturating_add(1), self.cap) {
            return Err(self.too_long(length));
        }
        // A NUL inside would end the string, and the rest would be read as other fields: N10.
        if let Some(at) = position_of_nul(string) {
            return Err(EncodeError::Nul { message: self.message, field, at });
        }
        self.bytes(string)?;
        self.u8(0)
    }

    #[cold]
    fn too_long(&self, bytes: usize) -> EncodeError {
        EncodeError::TooLong { message: self.message, bytes, max: self.cap }
    }

    #[cold]
    fn too_many(&self, field: &'static str, count: usize, max: usize) -> EncodeError {
        EncodeError::TooMany { message: self.message, field, count, max }
    }

    #[cold]
    pub(crate) fn bad_value(&self, field: &'static str, expected: &'static str) -> EncodeError {
        EncodeError::BadValue { message: self.message, field, expected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Shape = Shape { name: "Small", floor: 4, cap: 10, most: 10 };

    #[test]
    fn reads_are_bounded_by_the_body() {
        let mut reader = BodyReader::new("Test", &[0xff, 0xff, 0xfe, 1, 2, 3, 4, b'a', 0, 9]);
        assert_eq!(reader.u8("a"), Ok(255));
        assert_eq!(reader.i16("b"), Ok(-2));
        assert_eq!(reader.u32("c"), Ok(0x0102_0304));
        assert_eq!(reader.cstr("d"), Ok(&b"a"[..]));
        assert_eq!(
            reader.i32("e").unwrap_err().to_string(),
            "e needs 4 bytes and 1 are left of the body in Test"
        );
        assert_eq!(reader.cstr("f"), Err(reader.missing_nul("f")));
        assert_eq!(reader.finish().unwrap_err().fault(), &DecodeFault::Leftover { bytes: 1 });
    }

    #[test]
    fn the_nul_is_found_at_every_offset() {
        for length in 0..40 {
            let mut bytes = vec![0x80; length];
            assert_eq!(position_of_nul(&bytes), None);
            for at in 0..length {
                bytes[at] = 0;
                assert_eq!(position_of_nul(&bytes), Some(at), "{at} of {length}");
                bytes[at] = 1;
            }
        }
    }

    #[test]
    fn a_negative_count_is_refused() {
        let mut reader = BodyReader::new("Test", &[0x80, 0]);
        assert!(matches!(
            reader.count("columns").unwrap_err().fault(),
            DecodeFault::BadValue { found: -32768, .. }
        ));
    }

    #[test]
    fn the_length_word_counts_itself_and_the_body() {
        let mut out = BytesMut::from(&b"before"[..]);
        tagged(&mut out, b'x', SMALL, |body| body.cstr("name", b"ab")).unwrap();
        assert_eq!(&out[..], b"beforex\0\0\0\x07ab\0");
        untagged(&mut out, "Untagged", 8, |body| body.i32(1)).unwrap();
        assert_eq!(&out[14..], [0, 0, 0, 8, 0, 0, 0, 1]);
    }

    #[test]
    fn a_failed_message_leaves_the_buffer_unchanged() {
        let mut out = BytesMut::from(&b"before"[..]);
        let error = tagged(&mut out, b'x', SMALL, |body| body.bytes(&[0; 7])).unwrap_err();
        assert_eq!(error, EncodeError::TooLong { message: "Small", bytes: 11, max: 10 });
        let error = tagged(&mut out, b'x', SMALL, |body| body.cstr("name", b"a\0b")).unwrap_err();
        assert_eq!(error, EncodeError::Nul { message: "Small", field: "name", at: 1 });
        assert_eq!(&out[..], b"before");
        tagged(&mut out, b'x', SMALL, |body| body.bytes(&[0; 6])).unwrap();
    }

    /// V12: if the length overflowed 32 bits, the server would read the end of a string as messages.
    #[test]
    fn a_length_above_31_bits_is_refused_before_anything_is_copied() {
        let cap = in_memory(i32::MAX.unsigned_abs());
        for adding in [0x7fff_fffc, 0x8000_0000, 0xffff_fffc, 0x1_0000_0000, usize::MAX] {
            assert!(grown(4, adding, cap).is_err(), "{adding:#x}");
        }
        assert_eq!(grown(4, 0x7fff_fffb, cap), Ok(cap));
        assert_eq!(grown(usize::MAX, 1, usize::MAX), Err(usize::MAX));
    }
}
