//! The limit of records under one key, which TLS 1.2 cannot change.

use rustls::{ClientConnection, SupportedCipherSuite};

use super::stream::PLAINTEXT_BYTES_MAX;

/// The records that are not data: the last message of the handshake, and alerts.
const OTHER_RECORDS_MAX: u64 = 8;

/// The size of a record's header, which `max_fragment_size` of rustls counts.
const HEADER_BYTES: usize = 5;

/// The number of records of data that may still be sent.
///
/// At the limit, rustls would send close_notify and discard what it accepts afterwards. So it never gets there.
pub(super) struct KeyLimit {
    /// `None` in TLS 1.3: rustls changes the key.
    records_left: Option<u64>,
    /// The largest data of a record, in bytes.
    fragment: usize,
}

impl KeyLimit {
    /// Returns the limit of a connection after its handshake.
    pub(super) fn new(connection: &ClientConnection, max_fragment_size: Option<usize>) -> Self {
        let records_left = match connection.negotiated_cipher_suite() {
            Some(SupportedCipherSuite::Tls12(suite)) => {
                Some(suite.common.confidentiality_limit.saturating_sub(OTHER_RECORDS_MAX))
            }
            _ => None,
        };
        let fragment = match max_fragment_size {
            Some(record) => record.saturating_sub(HEADER_BYTES).clamp(1, PLAINTEXT_BYTES_MAX),
            None => PLAINTEXT_BYTES_MAX,
        };
        Self { records_left, fragment }
    }

    /// Returns the beginning of `data` that may be sent. `None` if the limit is reached.
    pub(super) fn allowed<'a>(&self, data: &'a [u8]) -> Option<&'a [u8]> {
        match self.records_left {
            None => Some(data),
            Some(0) => None,
            Some(records) => {
                let bytes = usize::try_from(records).unwrap_or(usize::MAX);
                let bytes = bytes.saturating_mul(self.fragment).min(data.len());
                data.get(..bytes)
            }
        }
    }

    /// Counts the records of so many bytes that were given to rustls at once.
    pub(super) fn count(&mut self, bytes: usize) {
        if let Some(left) = &mut self.records_left {
            *left = left.saturating_sub(bytes.div_ceil(self.fragment) as u64);
        }
    }
}
