//! The extensions of a certificate.

use crate::proto::auth::der::{self, Reader, Value, tag};

/// One extension.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extension<'a> {
    /// The contents of its object identifier.
    pub(super) id: &'a [u8],
    /// A reader that does not know the extension must refuse the certificate.
    pub(super) is_critical: bool,
    /// The value, in DER.
    pub(super) value: &'a [u8],
}

/// An iterator over all extensions, in order. `Some(None)` is a malformed one, and the last.
#[derive(Debug, Clone)]
pub(super) struct Extensions<'a> {
    reader: Reader<'a>,
}

impl<'a> Extensions<'a> {
    /// Returns the extensions in the field `[3]` of a certificate, or `None` if it is malformed. Without the field there
    /// are none.
    pub(super) fn new(field: Option<Value<'a>>) -> Option<Self> {
        let reader = match field {
            Some(field) => der::single(field.contents, tag::SEQUENCE)?.values(),
            None => Reader::new(&[]),
        };
        Some(Self { reader })
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Option<Extension<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let extension = self.reader.of(tag::SEQUENCE).and_then(parse);
        if extension.is_none() {
            self.reader = Reader::new(&[]);
        }
        Some(extension)
    }
}

fn parse(extension: Value<'_>) -> Option<Extension<'_>> {
    let mut parts = extension.values();
    let id = parts.of(tag::OBJECT_IDENTIFIER)?.contents;
    let is_critical = parts.of(tag::BOOLEAN).is_some_and(is_true);
    let value = parts.of(tag::OCTET_STRING)?.contents;
    parts.is_empty().then_some(Extension { id, is_critical, value })
}

/// Returns whether a BOOLEAN is true. DER has one byte for true; any byte but zero is accepted, as in OpenSSL.
pub(super) fn is_true(value: Value<'_>) -> bool {
    value.contents.iter().any(|&byte| byte != 0)
}
