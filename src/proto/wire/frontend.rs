//! Messages that the client sends, except the first packet.
//!
//! A message is encoded directly from the caller's slices, without another copy.

use std::fmt;

use bytes::BytesMut;

use super::cursor::{Body, BodyReader, tagged};
use super::error::{DecodeError, EncodeError};
use super::framer::Frame;
use super::list::{Formats, List, Oids, Values};
use super::tags;

/// A message of the client. `Debug` shows neither passwords nor statements nor the values of parameters.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrontendMessage<'a> {
    /// `p`: the raw body. Its form depends on the request of the server:
    /// [`PasswordMessage`], [`SaslInitialResponse`] or [`SaslResponse`].
    Password(&'a [u8]),
    /// `Q`.
    Query(&'a str),
    /// `P`.
    Parse {
        /// The name of the statement, empty for the unnamed one.
        statement: &'a str,
        /// The text of one statement.
        query: &'a str,
        /// The types of the parameters. The server determines a type that is 0 or missing.
        parameter_types: Oids<'a>,
    },
    /// `B`.
    Bind {
        /// The name of the portal, empty for the unnamed one.
        portal: &'a str,
        /// The name of the statement.
        statement: &'a str,
        /// The formats of the parameters, 0 text and 1 binary: none for all text, one for all, or one for each.
        parameter_formats: Formats<'a>,
        /// The values of the parameters.
        parameters: Values<'a>,
        /// The formats of the result's columns, in the same way.
        result_formats: Formats<'a>,
    },
    /// `D`.
    Describe {
        /// The kind of the named object.
        target: Target,
        /// Its name.
        name: &'a str,
    },
    /// `E`.
    Execute {
        /// The name of the portal.
        portal: &'a str,
        /// The maximum number of rows, 0 for all.
        max_rows: i32,
    },
    /// `F`: the raw body.
    FunctionCall(&'a [u8]),
    /// `C`.
    Close {
        /// The kind of the named object.
        target: Target,
        /// Its name.
        name: &'a str,
    },
    /// `S`.
    Sync,
    /// `H`.
    Flush,
    /// `d`.
    CopyData(&'a [u8]),
    /// `c`.
    CopyDone,
    /// `f`, with the reason.
    CopyFail(&'a str),
    /// `X`.
    Terminate,
}

/// The kind of object that Describe and Close name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// `S`.
    Statement,
    /// `P`.
    Portal,
}

impl Target {
    fn decode(reader: &mut BodyReader<'_>) -> Result<Self, DecodeError> {
        match reader.u8("target")? {
            b'S' => Ok(Self::Statement),
            b'P' => Ok(Self::Portal),
            other => Err(reader.bad_value("target", "S or P", other.into())),
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Self::Statement => b'S',
            Self::Portal => b'P',
        }
    }
}

impl<'a> FrontendMessage<'a> {
    /// Decodes a frame of a client.
    ///
    /// # Errors
    /// The type byte is unknown, or the body is not valid for this type, or has more bytes.
    pub fn decode(frame: Frame<'a>) -> Result<Self, DecodeError> {
        let Some(shape) = tags::frontend(frame.tag) else {
            return Err(DecodeError::unknown_tag("frontend", frame.tag));
        };
        let mut reader = BodyReader::new(shape.name, frame.body);
        let message = match frame.tag {
            b'B' => bind(&mut reader)?,
            b'C' => {
                Self::Close { target: Target::decode(&mut reader)?, name: reader.utf8("name")? }
            }
            b'D' => {
                Self::Describe { target: Target::decode(&mut reader)?, name: reader.utf8("name")? }
            }
            b'E' => {
                Self::Execute { portal: reader.utf8("portal")?, max_rows: reader.i32("row limit")? }
            }
            b'F' => Self::FunctionCall(reader.rest()),
            b'H' => Self::Flush,
            b'P' => {
                let statement = reader.utf8("statement")?;
                let query = reader.utf8("query")?;
                let count = usize::from(reader.u16("parameter type count")?);
                let parameter_types = List::read(&mut reader, count)?;
                Self::Parse { statement, query, parameter_types }
            }
            b'Q' => Self::Query(reader.utf8("query")?),
            b'S' => Self::Sync,
            b'X' => Self::Terminate,
            b'c' => Self::CopyDone,
            b'd' => Self::CopyData(reader.rest()),
            b'f' => Self::CopyFail(reader.utf8("reason")?),
            b'p' => Self::Password(reader.rest()),
            tag => return Err(DecodeError::unknown_tag("frontend", tag)),
        };
        reader.finish()?;
        Ok(message)
    }

    /// Returns the type byte.
    #[must_use]
    pub const fn tag(&self) -> u8 {
        match self {
            Self::Password(_) => b'p',
            Self::Query(_) => b'Q',
            Self::Parse { .. } => b'P',
            Self::Bind { .. } => b'B',
            Self::Describe { .. } => b'D',
            Self::Execute { .. } => b'E',
            Self::FunctionCall(_) => b'F',
            Self::Close { .. } => b'C',
            Self::Sync => b'S',
            Self::Flush => b'H',
            Self::CopyData(_) => b'd',
            Self::CopyDone => b'c',
            Self::CopyFail(_) => b'f',
            Self::Terminate => b'X',
        }
    }

    /// Returns the name of the message in PostgreSQL's manual.
    #[must_use]
    pub fn name(&self) -> &'static str {
        tags::frontend(self.tag()).map_or("", |shape| shape.name)
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// A string contains a NUL, or the message would be longer than a server accepts. Nothing
    /// was written.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let tag = self.tag();
        match tags::frontend(tag) {
            Some(shape) => tagged(out, tag, shape, |body| self.write(body)),
            // Not reached: the table contains every message.
            None => Ok(()),
        }
    }

    fn write(&self, body: &mut Body<'_>) -> Result<(), EncodeError> {
        match self {
            Self::Password(raw) | Self::FunctionCall(raw) => body.bytes(raw),
            Self::Query(query) => body.cstr("query", query.as_bytes()),
            Self::Parse { statement, query, parameter_types } => {
                body.cstr("statement", statement.as_bytes())?;
                body.cstr("query", query.as_bytes())?;
                body.unsigned_count("parameter types", parameter_types.len())?;
                parameter_types.write(body)
            }
            Self::Bind { portal, statement, parameter_formats, parameters, result_formats } => {
                body.cstr("portal", portal.as_bytes())?;
                body.cstr("statement", statement.as_bytes())?;
                body.unsigned_count("parameter formats", parameter_formats.len())?;
                parameter_formats.write(body)?;
                body.unsigned_count("parameters", parameters.len())?;
                parameters.write(body)?;
                body.unsigned_count("result formats", result_formats.len())?;
                result_formats.write(body)
            }
            Self::Describe { target, name } | Self::Close { target, name } => {
                body.u8(target.byte())?;
                body.cstr("name", name.as_bytes())
            }
            Self::Execute { portal, max_rows } => {
                body.cstr("portal", portal.as_bytes())?;
                body.i32(*max_rows)
            }
            Self::CopyData(data) => body.bytes(data),
            Self::CopyFail(reason) => body.cstr("reason", reason.as_bytes()),
            Self::Sync | Self::Flush | Self::CopyDone | Self::Terminate => Ok(()),
        }
    }
}

fn bind<'a>(reader: &mut BodyReader<'a>) -> Result<FrontendMessage<'a>, DecodeError> {
    let portal = reader.utf8("portal")?;
    let statement = reader.utf8("statement")?;
    let count = usize::from(reader.u16("parameter format count")?);
    let parameter_formats = List::read(reader, count)?;
    let count = usize::from(reader.u16("parameter count")?);
    let parameters = List::read(reader, count)?;
    let count = usize::from(reader.u16("result format count")?);
    let result_formats = List::read(reader, count)?;
    Ok(FrontendMessage::Bind { portal, statement, parameter_formats, parameters, result_formats })
}

impl fmt::Debug for FrontendMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password(raw) => write!(f, "Password({} bytes)", raw.len()),
            // A statement may contain a password: `ALTER ROLE … PASSWORD`.
            Self::Query(query) => write!(f, "Query({} bytes)", query.len()),
            Self::Parse { statement, query, parameter_types } => f
                .debug_struct("Parse")
                .field("statement", statement)
                .field("query_bytes", &query.len())
                .field("parameter_types", parameter_types)
                .finish(),
            Self::Bind { portal, statement, parameters, .. } => f
                .debug_struct("Bind")
                .field("portal", portal)
                .field("statement", statement)
                .field("parameters", parameters)
                .finish(),
            Self::Describe { target, name } | Self::Close { target, name } => {
                f.debug_struct(self.name()).field("target", target).field("name", name).finish()
            }
            Self::Execute { portal, max_rows } => f
                .debug_struct("Execute")
                .field("portal", portal)
                .field("max_rows", max_rows)
                .finish(),
            Self::FunctionCall(raw) => write!(f, "FunctionCall({} bytes)", raw.len()),
            Self::CopyData(data) => write!(f, "CopyData({} bytes)", data.len()),
            Self::CopyFail(reason) => f.debug_tuple("CopyFail").field(reason).finish(),
            Self::Sync | Self::Flush | Self::CopyDone | Self::Terminate => f.write_str(self.name()),
        }
    }
}

/// The answer to a request for a cleartext or MD5 password. Its type byte is `p`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PasswordMessage<'a>(pub &'a [u8]);

impl<'a> PasswordMessage<'a> {
    /// Decodes the body of a [`FrontendMessage::Password`].
    ///
    /// # Errors
    /// The password does not end with a NUL, or bytes follow the NUL.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = BodyReader::new("PasswordMessage", body);
        let password = reader.cstr("password")?;
        reader.finish()?;
        Ok(Self(password))
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// The password contains a NUL or is too long. Nothing was written.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        answer(out, "PasswordMessage", |body| body.cstr("password", self.0))
    }
}

impl fmt::Debug for PasswordMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordMessage").finish_non_exhaustive()
    }
}

/// The answer to AuthenticationSASL. Its type byte is `p`. `Debug` shows only the mechanism.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SaslInitialResponse<'a> {
    /// The chosen mechanism.
    pub mechanism: &'a str,
    /// The first message of the mechanism, if it has one.
    pub data: Option<&'a [u8]>,
}

impl<'a> SaslInitialResponse<'a> {
    /// Decodes the body of a [`FrontendMessage::Password`].
    ///
    /// # Errors
    /// The body is not valid for this message, or has more bytes.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = BodyReader::new("SASLInitialResponse", body);
        let mechanism = reader.utf8("mechanism")?;
        let data = Values::read(&mut reader, 1)?.iter().next().flatten();
        reader.finish()?;
        Ok(Self { mechanism, data })
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// The mechanism contains a NUL, or the message is too long. Nothing was written.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        answer(out, "SASLInitialResponse", |body| {
            body.cstr("mechanism", self.mechanism.as_bytes())?;
            List::new(&[self.data]).write(body)
        })
    }
}

impl fmt::Debug for SaslInitialResponse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslInitialResponse")
            .field("mechanism", &self.mechanism)
            .finish_non_exhaustive()
    }
}

/// The answer to AuthenticationSASLContinue. Its type byte is `p`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SaslResponse<'a>(pub &'a [u8]);

impl<'a> SaslResponse<'a> {
    /// Decodes the body of a [`FrontendMessage::Password`]. Every body is valid.
    #[must_use]
    pub const fn decode(body: &'a [u8]) -> Self {
        Self(body)
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// The message is too long. Nothing was written.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        answer(out, "SASLResponse", |body| body.bytes(self.0))
    }
}

impl fmt::Debug for SaslResponse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SaslResponse({} bytes)", self.0.len())
    }
}

/// Writes a `p` message. Its errors contain `name`.
fn answer(
    out: &mut BytesMut,
    name: &'static str,
    fill: impl FnOnce(&mut Body<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    match tags::frontend(b'p') {
        Some(shape) => tagged(out, b'p', tags::Shape { name, ..shape }, fill),
        // Not reached: the table contains every message.
        None => Ok(()),
    }
}
