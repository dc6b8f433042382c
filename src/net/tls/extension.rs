//! The extensions of a certificate.

use crate::auth::der::{self, Reader, Value, tag};

/// One extension.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extension<'a> {
    /// The contents of its object identifier.
    pub(super) id: &'a [u8],
    /// Whether a reader that does not know it must refuse the certificate.
    pub(super) is_critical: bool,
    /// The value, in DER.
    pub(super) value: &'a [u8],
}

/// All of them, in order. `Some(None)` is one that is malformed; none follows it.
#[derive(Debug, Clone)]
pub(super) struct Extensions<'a> {
    reader: Reader<'a>,
}

impl<'a> Extensions<'a> {
    /// Those in the field `[3]` of a certificate, or `None` if it is malformed. No field is no extension.
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

/// DER has one byte for true. OpenSSL takes any but zero for it, and so does this.
pub(super) fn is_true(value: Value<'_>) -> bool {
    value.contents.iter().any(|&byte| byte != 0)
}
