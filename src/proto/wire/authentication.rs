//! The Authentication messages, with type byte `R`.

use std::fmt;

use super::cursor::{Body, BodyReader};
use super::error::{DecodeError, EncodeError};
use super::escape::EscapedBytes;

/// The body of an `R` message: a request for authentication, or AuthenticationOk.
///
/// `Debug` shows codes and lengths, but no data of the exchange.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Authentication<'a> {
    /// Code 0.
    Ok,
    /// Code 3.
    CleartextPassword,
    /// Code 5, with the salt.
    Md5Password {
        /// Four random bytes of the server.
        salt: [u8; 4],
    },
    /// Code 10: the mechanism names, each ended by a NUL, then an empty one. `decode` checks the list.
    Sasl {
        /// The encoded list, with the final empty name.
        mechanisms: &'a [u8],
    },
    /// Code 11: the server's challenge.
    SaslContinue(&'a [u8]),
    /// Code 12: the server's final message.
    SaslFinal(&'a [u8]),
    /// Any other code: Kerberos (2), GSSAPI (7, 8), SSPI (9) and codes that are not assigned.
    Unsupported {
        /// The code.
        code: i32,
        /// The bytes after the code.
        data: &'a [u8],
    },
}

impl<'a> Authentication<'a> {
    /// Returns the names of the mechanisms that a SASL request offers. For every other request there are none.
    #[must_use]
    pub const fn mechanisms(&self) -> SaslMechanisms<'a> {
        match self {
            Self::Sasl { mechanisms } => SaslMechanisms { rest: mechanisms },
            _ => SaslMechanisms { rest: &[] },
        }
    }

    /// Returns the code of the message.
    #[must_use]
    pub const fn code(&self) -> i32 {
        match self {
            Self::Ok => 0,
            Self::CleartextPassword => 3,
            Self::Md5Password { .. } => 5,
            Self::Sasl { .. } => 10,
            Self::SaslContinue(_) => 11,
            Self::SaslFinal(_) => 12,
            Self::Unsupported { code, .. } => *code,
        }
    }

    /// Decodes the message. Bytes after it are not read.
    pub(crate) fn decode(reader: &mut BodyReader<'a>) -> Result<Self, DecodeError> {
        Ok(match reader.i32("authentication code")? {
            0 => Self::Ok,
            3 => Self::CleartextPassword,
            5 => {
                let salt = reader.u32("salt")?;
                Self::Md5Password { salt: salt.to_be_bytes() }
            }
            10 => Self::Sasl { mechanisms: mechanism_list(reader)? },
            11 => Self::SaslContinue(reader.rest()),
            12 => Self::SaslFinal(reader.rest()),
            code => Self::Unsupported { code, data: reader.rest() },
        })
    }

    pub(crate) fn write(&self, body: &mut Body<'_>) -> Result<(), EncodeError> {
        body.i32(self.code())?;
        match self {
            Self::Ok | Self::CleartextPassword => Ok(()),
            Self::Md5Password { salt } => body.bytes(salt),
            Self::Sasl { mechanisms } => {
                // The list comes from the caller. A list that `decode` refuses is not sent.
                let mut reader = BodyReader::new("AuthenticationSASL", mechanisms);
                let whole = mechanism_list(&mut reader).and_then(|_| reader.finish());
                match whole {
                    Ok(()) => body.bytes(mechanisms),
                    Err(_) => Err(body.bad_value("mechanisms", "names and an empty name")),
                }
            }
            Self::SaslContinue(data) | Self::SaslFinal(data) => body.bytes(data),
            Self::Unsupported { code, data } => match code {
                0 | 3 | 5 | 10 | 11 | 12 => {
                    Err(body.bad_value("code of an unsupported request", "none of the supported"))
                }
                _ => body.bytes(data),
            },
        }
    }
}

/// Reads one name or more, each ended by a NUL, then an empty name. A11.
fn mechanism_list<'a>(reader: &mut BodyReader<'a>) -> Result<&'a [u8], DecodeError> {
    let list = reader.remaining();
    if reader.cstr("mechanism name")?.is_empty() {
        return Err(reader.bad_value("mechanism count", "1 or more", 0));
    }
    while !reader.cstr("mechanism name")?.is_empty() {}
    let length = list.len().saturating_sub(reader.remaining().len());
    Ok(list.get(..length).unwrap_or_default())
}

/// Iterator over the mechanism names of AuthenticationSASL, in the server's order of preference.
#[derive(Debug, Clone, Copy)]
pub struct SaslMechanisms<'a> {
    rest: &'a [u8],
}

impl<'a> SaslMechanisms<'a> {
    /// Creates an iterator over the list of an [`Authentication::Sasl`]. It ends at the first empty name.
    #[must_use]
    pub const fn new(list: &'a [u8]) -> Self {
        Self { rest: list }
    }
}

impl<'a> Iterator for SaslMechanisms<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let mut halves = self.rest.splitn(2, |&byte| byte == 0);
        let name = halves.next()?;
        self.rest = halves.next().unwrap_or_default();
        (!name.is_empty()).then_some(name)
    }
}

impl fmt::Debug for Authentication<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("Ok"),
            Self::CleartextPassword => f.write_str("CleartextPassword"),
            Self::Md5Password { .. } => f.write_str("Md5Password"),
            Self::Sasl { mechanisms } => write!(f, "Sasl(\"{}\")", EscapedBytes(mechanisms)),
            Self::SaslContinue(data) => write!(f, "SaslContinue({} bytes)", data.len()),
            Self::SaslFinal(data) => write!(f, "SaslFinal({} bytes)", data.len()),
            Self::Unsupported { code, data } => {
                write!(f, "Unsupported(code {code}, {} bytes)", data.len())
            }
        }
    }
}
