//! The header of a TLS record.

use rustls::{ContentType, ProtocolVersion};

use super::fault::Fault;

/// The size of a header: type, version, length.
pub(super) const HEADER_BYTES: usize = 5;

/// The largest data of one record, in bytes: RFC 8446 §5.1.
pub(super) const PLAINTEXT_BYTES_MAX: usize = 16 * 1024;

/// The largest record, in bytes: RFC 5246 §6.2.3. In TLS 1.3 it is a little less.
pub(super) const RECORD_BYTES_MAX: usize = HEADER_BYTES + PLAINTEXT_BYTES_MAX + 2_048;

/// The unencrypted header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) content: ContentType,
    pub(super) version: ProtocolVersion,
    /// The size of the record with its header.
    pub(super) record_bytes: usize,
}

impl Header {
    /// Parses the header at the front of `bytes`. `None` if it is not complete.
    ///
    /// # Errors
    /// If there is no record. The first byte is checked before the others have arrived.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, Fault> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let content = ContentType::from(first);
        if let ContentType::Unknown(_) | ContentType::Heartbeat = content {
            return Err(Fault::NotTls);
        }
        let Some(&[_, major, minor, high, low]) = bytes.first_chunk() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        // Only data may be empty: empty records of another type would cost time and have no effect.
        if major != 3 || (length == 0 && content != ContentType::ApplicationData) {
            return Err(Fault::NotTls);
        }
        let record_bytes = HEADER_BYTES + length;
        if record_bytes > RECORD_BYTES_MAX {
            return Err(Fault::TooLong);
        }
        let version = ProtocolVersion::from(u16::from_be_bytes([major, minor]));
        Ok(Some(Self { content, version, record_bytes }))
    }

    /// Parses the header at the front of `bytes`. `None` if the record is not complete.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(super) fn whole(bytes: &[u8]) -> Result<Option<Self>, Fault> {
        Ok(Self::read(bytes)?.filter(|header| header.record_bytes <= bytes.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_complete_or_incomplete_or_refused_at_once() {
        let whole = |bytes: &[u8]| Header::whole(bytes).map(|found| found.map(|h| h.record_bytes));
        assert_eq!(whole(&[23, 3, 3, 0, 2, 7, 7, 9]), Ok(Some(7)));
        for end in 0..7 {
            assert_eq!(whole(&[23, 3, 3, 0, 2, 7, 7][..end]), Ok(None));
        }
        assert_eq!(whole(&[23, 3, 3, 0, 0]), Ok(Some(5)));
        for other in [b"R\0\0\0\x08".as_slice(), b"H", b"E", b"\x18", b"\x16\x02\x00\0\x01"] {
            assert_eq!(whole(other), Err(Fault::NotTls), "{other:?}");
        }
        for empty in [20, 21, 22] {
            assert_eq!(whole(&[empty, 3, 3, 0, 0]), Err(Fault::NotTls));
        }
        assert_eq!(whole(&[23, 3, 3, 0x48, 0]), Ok(None));
        assert_eq!(whole(&[23, 3, 3, 0x48, 1]), Err(Fault::TooLong));
        assert_eq!(whole(&[23, 3, 3, 0xff, 0xff]), Err(Fault::TooLong));
    }
}
