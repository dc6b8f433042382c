//! The grammar of RFC 5802 section 7, as strict as it is written.

use std::fmt;
use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::error::{ScramError, ScramMessage};
use super::{SCRAM_MESSAGE_BYTES_MAX, SCRAM_NONCE_BYTES, SCRAM_SALT_BYTES_MAX};

/// One side's contribution to the nonce. It is not `Clone`: a nonce serves one exchange.
pub struct ScramNonce(String);

impl ScramNonce {
    /// Base64 of random bytes, 24 characters. The caller brings the randomness.
    #[must_use]
    pub fn new(random: [u8; SCRAM_NONCE_BYTES]) -> Self {
        Self(STANDARD.encode(random))
    }

    /// The text of a published exchange.
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

/// What the client says about binding the exchange to its TLS channel: the GS2 header.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Binding {
    /// `n,,`: no TLS, binding is disabled, or the server offers it and its certificate, which was verified, has no hash.
    None,
    /// `y,,`: the client wants it, the server did not offer it. A server that did refuses this, so
    /// that stripping the offer is found out.
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

    /// The value of `c=`: base64 of header and binding data.
    pub(super) fn encoded(&self) -> String {
        let data = match self {
            Self::None | Self::SupportedNotOffered => &[][..],
            Self::TlsServerEndPoint(hash) => hash,
        };
        STANDARD.encode([self.gs2_header().as_bytes(), data].concat())
    }
}

/// What a server-first-message says.
pub(super) struct ServerFirst<'a> {
    /// Both nonces together.
    pub(super) nonce: &'a str,
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
}

impl<'a> ServerFirst<'a> {
    /// Reads and judges it. Nothing is computed before every part has passed.
    pub(super) fn parse(
        text: &'a [u8],
        client_nonce: &str,
        allowed: &RangeInclusive<u32>,
    ) -> Result<Self, ScramError> {
        let message = ScramMessage::ServerFirst;
        let mut attributes = Attributes::new(message, text)?;
        let nonce = attributes.nonce()?;
        let salt = attributes.take(b's', "no salt (s=) where one is due")?;
        let iterations = attributes.take(b'i', "no iteration count (i=) where one is due")?;
        attributes.end()?;

        let added =
            nonce.strip_prefix(client_nonce).ok_or(ScramError::NonceMismatch { message })?;
        // libpq accepts a bare echo. N23.
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

/// What a client-first-message says. The username is not kept: the startup message counts. N23.
pub(super) struct ClientFirst<'a> {
    /// The GS2 header.
    pub(super) binding: Binding,
    /// What follows the GS2 header: a part of AuthMessage.
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
                return Err(ScramError::ChannelBinding { problem: "asked for, but not offered" });
            }
            _ => return Err(malformed("no channel binding flag (n, y or p=) at the start")),
        };
        if attributes.next() != Some(b"") {
            return Err(malformed("authorization identity where PostgreSQL allows none"));
        }
        let bare = attributes.rest.unwrap_or_default();
        attributes.take(b'n', "no username (n=) where one is due")?;
        let nonce = attributes.nonce()?;
        attributes.end()?;
        Ok(Self { binding, bare, nonce })
    }
}

/// What a client-final-message says.
pub(super) struct ClientFinal<'a> {
    /// The value of `c=`, still encoded.
    pub(super) binding: &'a [u8],
    pub(super) nonce: &'a str,
    pub(super) proof: [u8; 32],
    /// All before `,p=`: a part of AuthMessage.
    pub(super) without_proof: &'a [u8],
}

impl<'a> ClientFinal<'a> {
    pub(super) fn parse(text: &'a [u8]) -> Result<Self, ScramError> {
        let message = ScramMessage::ClientFinal;
        let mut attributes = Attributes::new(message, text)?;
        let binding = attributes.take(b'c', "no channel binding (c=) where it is due")?;
        let nonce = attributes.nonce()?;
        // What is left begins after the comma that ends the nonce.
        let left = attributes.rest.map_or(0, |rest| rest.len().saturating_add(1));
        let without_proof = text.get(..text.len().saturating_sub(left)).unwrap_or_default();
        let proof = attributes.take(b'p', "no proof (p=) where one is due")?;
        attributes.end()?;
        let problem = "proof that is not the base64 of 32 bytes";
        let proof = decode_base64_32(proof).ok_or(ScramError::Malformed { message, problem })?;
        Ok(Self { binding, nonce, proof, without_proof })
    }
}

/// ServerSignature out of a server-final-message, or the error that the server gave in its place.
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

/// `posit-number`: decimal, no sign, no leading zero, at least 1.
pub(super) fn parse_iterations(digits: &[u8], message: ScramMessage) -> Result<u64, ScramError> {
    let problem = "iteration count that is no positive decimal number of up to 10 digits";
    let malformed = ScramError::Malformed { message, problem };
    match digits {
        [b'1'..=b'9', rest @ ..] if rest.len() < 10 && rest.iter().all(u8::is_ascii_digit) => {
            Ok(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
        }
        _ => Err(malformed),
    }
}

/// Standard alphabet, padded, canonical, no blanks: as PostgreSQL's decoder wants it.
pub(super) fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// As [`decode_base64`], of a SHA-256 sized value.
pub(super) fn decode_base64_32(text: &[u8]) -> Option<[u8; 32]> {
    decode_base64(text)?.try_into().ok()
}

pub(super) fn encode_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Attributes from left to right. Order and names are fixed in SCRAM: nothing is searched for.
struct Attributes<'a> {
    message: ScramMessage,
    /// What follows the last comma that was passed; `None` when there was no further one.
    rest: Option<&'a [u8]>,
}

impl<'a> Attributes<'a> {
    fn new(message: ScramMessage, text: &'a [u8]) -> Result<Self, ScramError> {
        if text.len() > SCRAM_MESSAGE_BYTES_MAX {
            return Err(ScramError::TooLong { message, found: text.len() });
        }
        Ok(Self { message, rest: Some(text) })
    }

    /// The text up to the next comma.
    fn next(&mut self) -> Option<&'a [u8]> {
        let mut parts = self.rest?.splitn(2, |&byte| byte == b',');
        let part = parts.next();
        self.rest = parts.next();
        part
    }

    /// The value of the next attribute, which has to be this one.
    fn take(&mut self, name: u8, problem: &'static str) -> Result<&'a [u8], ScramError> {
        match self.next() {
            Some([found, b'=', value @ ..]) if *found == name => Ok(value),
            // Where it stands first, the RFC wants the exchange to fail for whoever does not know
            // it. Nowhere else is it allowed.
            Some([b'm', b'=', ..]) => Err(ScramError::MandatoryExtension { message: self.message }),
            _ => Err(ScramError::Malformed { message: self.message, problem }),
        }
    }

    /// A nonce: printable ASCII, comma excepted, at least one character.
    fn nonce(&mut self) -> Result<&'a str, ScramError> {
        let value = self.take(b'r', "no nonce (r=) where one is due")?;
        let printable = !value.is_empty() && value.iter().all(u8::is_ascii_graphic);
        std::str::from_utf8(value).ok().filter(|_| printable).ok_or(ScramError::Malformed {
            message: self.message,
            problem: "nonce that is empty or not printable ASCII",
        })
    }

    /// Nothing may follow. libpq logs what does and goes on. N23.
    fn end(self) -> Result<(), ScramError> {
        let message = self.message;
        match self.rest {
            None => Ok(()),
            Some([b'm', b'=', ..]) => Err(ScramError::MandatoryExtension { message }),
            Some(_) => Err(ScramError::Malformed { message, problem: "trailing attributes" }),
        }
    }
}
