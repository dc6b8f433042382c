//! The keys of one direction, which decrypt or encrypt records.
//!
//! rustls has the ciphers and the key schedule. This module counts the records under a key, which is
//! part of the cipher's input, and enforces the limit of that count.

use std::fmt;

use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter,
    OutboundChunks, OutboundPlainMessage,
};
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion,
    SupportedCipherSuite,
};

use super::fault::Fault;
use super::record::{HEADER_BYTES, Header, PLAINTEXT_BYTES_MAX};

/// Decrypts the server's records.
pub(super) struct Opener {
    decrypter: Box<dyn MessageDecrypter>,
    /// The number of records decrypted with this key.
    sequence: u64,
}

impl Opener {
    pub(super) fn new(
        suite: SupportedCipherSuite,
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, Error> {
        let (key, iv) = key_and_iv(secrets)?;
        let decrypter = match suite {
            SupportedCipherSuite::Tls13(suite) => suite.aead_alg.decrypter(key, iv),
            SupportedCipherSuite::Tls12(suite) => {
                let (fixed, _) = split_iv(&iv, suite.aead_alg.key_block_shape().fixed_iv_len)?;
                suite.aead_alg.decrypter(key, fixed)
            }
        };
        Ok(Self { decrypter, sequence })
    }

    /// Decrypts one complete record in place. Returns the type of its contents, their index in the record, and the contents.
    pub(super) fn open<'a>(
        &mut self,
        header: Header,
        record: &'a mut [u8],
    ) -> Result<(ContentType, usize, &'a [u8]), Fault> {
        let begin = record.as_ptr().addr();
        let sealed = record.get_mut(HEADER_BYTES..).unwrap_or_default();
        let message = InboundOpaqueMessage::new(header.content, header.version, sealed);
        let InboundPlainMessage { typ, payload, .. } =
            self.decrypter.decrypt(message, self.sequence).map_err(|error| match error {
                Error::PeerSentOversizedRecord => Fault::TooLong,
                _ => Fault::Forged,
            })?;
        self.sequence = self.sequence.checked_add(1).ok_or(Fault::KeysExhausted)?;
        if payload.len() > PLAINTEXT_BYTES_MAX {
            return Err(Fault::TooLong);
        }
        Ok((typ, payload.as_ptr().addr().saturating_sub(begin), payload))
    }
}

/// Encrypts the client's records.
pub(super) struct Sealer {
    encrypter: Box<dyn MessageEncrypter>,
    /// The number of records encrypted with this key.
    sequence: u64,
    /// The largest number.
    limit: u64,
}

impl Sealer {
    pub(super) fn new(
        suite: SupportedCipherSuite,
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, Error> {
        let (key, iv) = key_and_iv(secrets)?;
        let (encrypter, common) = match suite {
            SupportedCipherSuite::Tls13(suite) => {
                (suite.aead_alg.encrypter(key, iv), &suite.common)
            }
            SupportedCipherSuite::Tls12(suite) => {
                let shape = suite.aead_alg.key_block_shape();
                let (fixed, explicit) = split_iv(&iv, shape.fixed_iv_len)?;
                (suite.aead_alg.encrypter(key, fixed, explicit), &suite.common)
            }
        };
        Ok(Self { encrypter, sequence, limit: common.confidentiality_limit })
    }

    /// Returns whether the next record is the last one with this key: it must be close_notify or a key update.
    pub(super) fn is_exhausted(&self) -> bool {
        self.sequence.saturating_add(1) >= self.limit
    }

    /// Encrypts one record with at most [`PLAINTEXT_BYTES_MAX`] bytes.
    pub(super) fn seal(&mut self, content: ContentType, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
        // No count may be used twice with one key.
        if self.sequence >= self.limit {
            return Err(Fault::KeysExhausted);
        }
        let message = OutboundPlainMessage {
            typ: content,
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(bytes),
        };
        let sealed = self.encrypter.encrypt(message, self.sequence).map_err(Fault::Crypto)?;
        self.sequence = self.sequence.checked_add(1).ok_or(Fault::KeysExhausted)?;
        Ok(sealed.encode())
    }

    /// Encrypts an alert: close_notify is a warning, all others are fatal.
    pub(super) fn seal_alert(&mut self, alert: AlertDescription) -> Result<Vec<u8>, Fault> {
        let level = if alert == AlertDescription::CloseNotify { 1 } else { 2 };
        self.seal(ContentType::Alert, &[level, alert.into()])
    }

    #[cfg(test)]
    pub(super) fn exhaust(&mut self, records_left: u64) {
        self.limit = self.sequence + records_left;
    }
}

fn key_and_iv(secrets: ConnectionTrafficSecrets) -> Result<(AeadKey, Iv), Error> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((key, iv)),
        _ => Err(Error::General("the cipher is not known".to_owned())),
    }
}

/// Splits the nonce of TLS 1.2 into its fixed part and the part at which the count begins.
fn split_iv(iv: &Iv, fixed: usize) -> Result<(&[u8], &[u8]), Error> {
    let split = iv.as_ref().split_at_checked(fixed);
    split.ok_or_else(|| Error::General("the cipher's nonce is too short".to_owned()))
}

impl fmt::Debug for Opener {
    // Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl fmt::Debug for Sealer {
    // Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}
