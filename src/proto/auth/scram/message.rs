//! The messages of RFC 5802 section 7, parsed strictly.

use std::fmt;
use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::error::{ScramError, ScramMessage};
use super::{SCRAM_MESSAGE_BYTES_MAX, SCRAM_NONCE_BYTES, SCRAM_SALT_BYTES_MAX};

/// One side's part of the nonce. It is not `Clone`: a nonce is used for one exchange.
pub struct ScramNonce(String);

impl ScramNonce {
    /// Creates a nonce of 24 characters, the Base64 of the random bytes.
    #[must_use]
    pub fn new(random: [u8; SCRAM_NONCE_BYTES]) -> Self {
        Self(STANDARD.encode(random))
    }

    /// Creates a nonce from its text, for published exchanges.
    #[cfg(test)]
    pub(crate) fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ScramNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramNonce(..)")
    }
}

/// The channel binding of an exchange, which the GS2 header contains.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Binding {
    /// `n,,`: no TLS, binding is disabled, or the server offers it and its certificate, which was verified, has no hash.
    None,
    /// `y,,`: the client supports it, the server did not offer it. A server that did offer it refuses this: that reveals
    /// an attacker that removed the offer.
    SupportedNotOffered,
    /// `p=tls-server-end-point,,`, with the hash of the server's certificate (RFC 5929).
    TlsServerEndPoint(Vec<u8>),
}

impl Binding {
    pub(super) fn gs2_header(&self) -> &'static str {
        match self {
            Self::None => "n,,",
            Self::SupportedNotOffered => "y,,",
            Self::TlsServerEndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    /// Returns the value of `c=`: the Base64 of header and binding data.
    pub(super) fn encoded(&self) -> String {
        let data = match self {
            Self::None | Self::SupportedNotOffered => &[][..],
            Self::TlsServerEndPoint(hash) => hash,
        };
        STANDARD.encode([self.gs2_header().as_bytes(), data].concat())
    }
}

/// A server-first-message.
pub(super) struct ServerFirst<'a> {
    /// Both nonces together.
    pub(super) nonce: &'a str,
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
}

impl<'a> ServerFirst<'a> {
    /// Parses and checks a message. Nothing is computed before every part was checked.
    pub(super) fn parse(
        text: &'a [u8],
        client_nonce: &str,
        allowed: &RangeInclusive<u32>,
    ) -> Result<Self, ScramError> {
        let message = ScramMessage::ServerFirst;
        let mut attributes = Attributes::new(message, text)?;
        let nonce = attributes.nonce()?;
        let salt = attributes.take(b's', "missing salt (s=)")?;
        let iterations = attributes.take(b'i', "missing iteration count (i=)")?;
        attributes.end()?;

        let added =
            nonce.strip_prefix(client_nonce).ok_or(ScramError::NonceMismatch { message })?;
        // libpq accepts the client's nonce alone. N23.
        if added.is_empty() {
            return Err(ScramError::NonceNotExtended);
        }
        let salt = decode_base64(salt).ok_or(ScramError::Malformed {
            message,
            problem: "salt that is not padded base64 without blanks",
        })?;
        if salt.is_empty() || salt.len() > SCRAM_SALT_BYTES_MAX {
            return Err(ScramError::Malformed { message, problem: "salt not of 1 to 1024 bytes" });
        }
        let iterations = parse_iterations(iterations, message)?;
        let (min, max) = (*allowed.start(), *allowed.end());
        match u32::try_from(iterations) {
            Ok(few) if few < min => Err(ScramError::TooFewIterations { found: iterations, min }),
            Ok(iterations) if iterations <= max => Ok(Self { nonce, salt, iterations }),
            _ => Err(ScramError::TooManyIterations { found: iterations, max }),
        }
    }
}

/// A client-first-message. The user name is not kept: the one of the startup message is used.
// N23.
pub(super) struct ClientFirst<'a> {
    /// The GS2 header.
    pub(super) binding: Binding,
    /// The bytes after the GS2 header: a part of AuthMessage.
    pub(super) bare: &'a [u8],
    pub(super) nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    pub(super) fn parse(text: &'a [u8]) -> Result<Self, ScramError> {
        let message = ScramMessage::ClientFirst;
        let malformed = |problem| ScramError::Malformed { message, problem };
        let mut attributes = Attributes::new(message, text)?;
        let binding = match attributes.next() {
            Some(b"n") => Binding::None,
            Some(b"y") => Binding::SupportedNotOffered,
            Some([b'p', b'=', ..]) => {
                return Err(ScramError::ChannelBinding { problem: "requested, but not offered" });
            }
            _ => return Err(malformed("no channel binding flag (n, y or p=) at the start")),
        };
        if attributes.next() != Some(b"") {
            return Err(malformed("authorization identity where PostgreSQL allows none"));
        }
        let bare = attributes.rest.unwrap_or_default();
        attributes.take(b'n', "missing user name (n=)")?;
        let nonce = attributes.nonce()?;
        attributes.end()?;
        Ok(Self { binding, bare, nonce })
    }
}

/// A client-final-message.
pub(super) struct ClientFinal<'a> {
    /// The value of `c=`, still encoded.
    pub(super) binding: &'a [u8],
    pub(super) nonce: &'a str,
    pub(super) proof: [u8; 32],
    /// The bytes before `,p=`: a part of AuthMessage.
    pub(super) without_proof: &'a [u8],
}

impl<'a> ClientFinal<'a> {
    pub(super) fn parse(text: &'a [u8]) -> Result<Self, ScramError> {
        let message = ScramMessage::ClientFinal;
        let mut attributes = Attributes::new(message, text)?;
        let binding = attributes.take(b'c', "missing channel binding (c=)")?;
        let nonce = attributes.nonce()?;
        // The rest begins after the comma that ends the nonce.
        let left = attributes.rest.map_or(0, |rest| rest.len().saturating_add(1));
        let without_proof = text.get(..text.len().saturating_sub(left)).unwrap_or_default();
        let proof = attributes.take(b'p', "missing proof (p=)")?;
        attributes.end()?;
        let problem = "proof that is not the base64 of 32 bytes";
        let proof = decode_base64_32(proof).ok_or(ScramError::Malformed { message, problem })?;
        Ok(Self { binding, nonce, proof, without_proof })
    }
}

/// Parses a server-final-message. Returns ServerSignature, or the error that the server sent instead.
pub(super) fn parse_server_final(text: &[u8]) -> Result<[u8; 32], ScramError> {
    let message = ScramMessage::ServerFinal;
    let mut attributes = Attributes::new(message, text)?;
    if let Some(error) = text.strip_prefix(b"e=") {
        return Err(ScramError::Refused { error: String::from_utf8_lossy(error).into_owned() });
    }
    let signature = attributes.take(b'v', "neither a signature (v=) nor an error (e=)")?;
    attributes.end()?;
    decode_base64_32(signature).ok_or(ScramError::Malformed {
        message,
        problem: "signature that is not the base64 of 32 bytes",
    })
}

/// Parses a `posit-number`: decimal, no sign, no leading zero, at least 1.
pub(super) fn parse_iterations(digits: &[u8], message: ScramMessage) -> Result<u64, ScramError> {
    let problem = "iteration count that is not a positive decimal number of up to 10 digits";
    let malformed = ScramError::Malformed { message, problem };
    match digits {
        [b'1'..=b'9', rest @ ..] if rest.len() < 10 && rest.iter().all(u8::is_ascii_digit) => {
            Ok(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
        }
        _ => Err(malformed),
    }
}

/// Decodes Base64 as strictly as PostgreSQL: standard alphabet, padded, canonical, no blanks.
pub(super) fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Decodes Base64 of 32 bytes, like [`decode_base64`].
pub(super) fn decode_base64_32(text: &[u8]) -> Option<[u8; 32]> {
    decode_base64(text)?.try_into().ok()
}

pub(super) fn encode_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The attributes of a message, from left to right. SCRAM fixes their order and names.
struct Attributes<'a> {
    message: ScramMessage,
    /// The text after the last comma that was read; `None` if there was no further comma.
    rest: Option<&'a [u8]>,
}

impl<'a> Attributes<'a> {
    fn new(message: ScramMessage, text: &'a [u8]) -> Result<Self, ScramError> {
        if text.len() > SCRAM_MESSAGE_BYTES_MAX {
            return Err(ScramError::TooLong { message, found: text.len() });
        }
        Ok(Self { message, rest: Some(text) })
    }

    /// Returns the text up to the next comma.
    fn next(&mut self) -> Option<&'a [u8]> {
        let mut parts = self.rest?.splitn(2, |&byte| byte == b',');
        let part = parts.next();
        self.rest = parts.next();
        part
    }

    /// Returns the value of the next attribute, which must have this name.
    fn take(&mut self, name: u8, problem: &'static str) -> Result<&'a [u8], ScramError> {
        match self.next() {
            Some([found, b'=', value @ ..]) if *found == name => Ok(value),
            // The RFC allows a mandatory extension only at the start, and the exchange must fail if it is not known.
            Some([b'm', b'=', ..]) => Err(ScramError::MandatoryExtension { message: self.message }),
            _ => Err(ScramError::Malformed { message: self.message, problem }),
        }
    }

    /// Returns the value of a nonce: printable ASCII without commas, at least one character.
    fn nonce(&mut self) -> Result<&'a str, ScramError> {
        let value = self.take(b'r', "missing nonce (r=)")?;
        let printable = !value.is_empty() && value.iter().all(u8::is_ascii_graphic);
        std::str::from_utf8(value).ok().filter(|_| printable).ok_or(ScramError::Malformed {
            message: self.message,
            problem: "nonce that is empty or not printable ASCII",
        })
    }

    /// Checks that no attribute follows.
    // libpq logs further attributes and continues. N23.
    fn end(self) -> Result<(), ScramError> {
        let message = self.message;
        match self.rest {
            None => Ok(()),
            Some([b'm', b'=', ..]) => Err(ScramError::MandatoryExtension { message }),
            Some(_) => Err(ScramError::Malformed { message, problem: "trailing attributes" }),
        }
    }
}
