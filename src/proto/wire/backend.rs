//! Messages that the server sends.
//!
//! [`BackendMessage::decode`] checks a frame to its last byte, so that the fields of a message can be
//! read without further errors. [`BackendMessage::encode`] is for tests and for servers that are not PostgreSQL.

use std::fmt;

use bytes::BytesMut;

use super::cursor::{Body, BodyReader, tagged};
use super::diagnostic::Diagnostic;
use super::error::{DecodeError, EncodeError};
use super::escape::EscapedBytes;
use super::framer::Frame;
use super::limits::{UNAUTHENTICATED_ERROR_BYTES_MAX, in_memory};
use super::list::{Columns, List, Names, Oids, Values};
use super::notification::RawNotification;
use super::tags;
use super::version::ProtocolVersion;

pub use super::authentication::{Authentication, SaslMechanisms};
pub use super::parts::{BackendKeyData, CopyResponse, TransactionStatus};

/// A message of the server, borrowed from its frame. `Debug` shows lengths in place of keys, SASL
/// data, payloads and values.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendMessage<'a> {
    /// `R`.
    Authentication(Authentication<'a>),
    /// `K`: the data that a CancelRequest needs.
    BackendKeyData(BackendKeyData<'a>),
    /// `S`.
    ParameterStatus {
        /// The parameter's name.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// `N`.
    NoticeResponse(Diagnostic<'a>),
    /// `A`.
    NotificationResponse(RawNotification<'a>),
    /// `E`.
    ErrorResponse(Diagnostic<'a>),
    /// `E` in the form of protocol 2, before authentication: text without line end or NUL.
    // N3.
    LegacyError {
        /// The text, in the encoding of the server.
        text: &'a [u8],
    },
    /// `Z`.
    ReadyForQuery {
        /// The state of the transaction.
        status: TransactionStatus,
    },
    /// `C`.
    CommandComplete {
        /// `LISTEN`, `SELECT 1` and so on.
        tag: &'a [u8],
    },
    /// `I`: an empty query instead of CommandComplete.
    EmptyQueryResponse,
    /// `T`.
    RowDescription {
        /// The columns of the rows that follow.
        columns: Columns<'a>,
    },
    /// `D`.
    DataRow {
        /// One value per column.
        values: Values<'a>,
    },
    /// `G`.
    CopyInResponse(CopyResponse<'a>),
    /// `H`.
    CopyOutResponse(CopyResponse<'a>),
    /// `W`.
    CopyBothResponse(CopyResponse<'a>),
    /// `d`.
    CopyData(&'a [u8]),
    /// `c`.
    CopyDone,
    /// `v`.
    NegotiateProtocolVersion {
        /// The newest version that the server supports.
        version: ProtocolVersion,
        /// The `_pq_.` options that it does not support.
        options: Names<'a>,
    },
    /// `1`.
    ParseComplete,
    /// `2`.
    BindComplete,
    /// `3`.
    CloseComplete,
    /// `n`.
    NoData,
    /// `s`.
    PortalSuspended,
    /// `t`.
    ParameterDescription {
        /// The type of each parameter.
        types: Oids<'a>,
    },
    /// `V`.
    FunctionCallResponse {
        /// The result, `None` for NULL.
        value: Option<&'a [u8]>,
    },
}

impl<'a> BackendMessage<'a> {
    /// Decodes a frame of the server.
    ///
    /// # Errors
    /// The type byte is unknown, or the body is not valid for this type, or has more bytes.
    // N5.
    pub fn decode(frame: Frame<'a>) -> Result<Self, DecodeError> {
        let Some(shape) = tags::backend(frame.tag) else {
            return Err(DecodeError::unknown_tag("backend", frame.tag));
        };
        if frame.is_legacy() {
            return Ok(Self::LegacyError { text: frame.body });
        }
        let mut reader = BodyReader::new(shape.name, frame.body);
        let message = match frame.tag {
            // These three check the end of the body themselves.
            b'A' => return RawNotification::decode(reader).map(Self::NotificationResponse),
            b'E' => return Diagnostic::decode(reader).map(Self::ErrorResponse),
            b'N' => return Diagnostic::decode(reader).map(Self::NoticeResponse),
            b'C' => Self::CommandComplete { tag: reader.cstr("tag")? },
            b'D' => {
                let count = reader.count("value count")?;
                Self::DataRow { values: List::read(&mut reader, count)? }
            }
            b'G' => Self::CopyInResponse(CopyResponse::decode(&mut reader)?),
            b'H' => Self::CopyOutResponse(CopyResponse::decode(&mut reader)?),
            b'I' => Self::EmptyQueryResponse,
            b'K' => Self::BackendKeyData(BackendKeyData::decode(&mut reader)?),
            b'R' => Self::Authentication(Authentication::decode(&mut reader)?),
            b'S' => Self::ParameterStatus {
                name: reader.cstr("parameter name")?,
                value: reader.cstr("parameter value")?,
            },
            b'T' => {
                let count = reader.count("column count")?;
                Self::RowDescription { columns: List::read(&mut reader, count)? }
            }
            b'V' => Self::FunctionCallResponse { value: value(&mut reader)? },
            b'W' => Self::CopyBothResponse(CopyResponse::decode(&mut reader)?),
            b'Z' => Self::ReadyForQuery { status: TransactionStatus::decode(&mut reader)? },
            b'c' => Self::CopyDone,
            b'd' => Self::CopyData(reader.rest()),
            b'n' => Self::NoData,
            b's' => Self::PortalSuspended,
            b't' => {
                let count = usize::from(reader.u16("parameter count")?);
                Self::ParameterDescription { types: List::read(&mut reader, count)? }
            }
            b'v' => {
                let version = ProtocolVersion(reader.u32("version")?);
                let count = reader.i32("option count")?;
                let count = usize::try_from(count)
                    .map_err(|_| reader.bad_value("option count", "0 or more", count.into()))?;
                Self::NegotiateProtocolVersion { version, options: List::read(&mut reader, count)? }
            }
            b'1' => Self::ParseComplete,
            b'2' => Self::BindComplete,
            b'3' => Self::CloseComplete,
            tag => return Err(DecodeError::unknown_tag("backend", tag)),
        };
        reader.finish()?;
        Ok(message)
    }

    /// Decodes the beginning of a ParameterStatus: the name, and the beginning of the value.
    ///
    /// # Errors
    /// The name has no NUL, or bytes follow the NUL of the value.
    pub(crate) fn parameter_status(beginning: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = BodyReader::new("ParameterStatus", beginning);
        let name = reader.cstr("parameter name")?;
        let value = reader.remaining();
        if reader.cstr("parameter value").is_ok() {
            reader.finish()?;
        }
        Ok(Self::ParameterStatus { name, value })
    }

    /// Returns the type byte.
    #[must_use]
    pub const fn tag(&self) -> u8 {
        match self {
            Self::Authentication(_) => b'R',
            Self::BackendKeyData(_) => b'K',
            Self::ParameterStatus { .. } => b'S',
            Self::NoticeResponse(_) => b'N',
            Self::NotificationResponse(_) => b'A',
            Self::ErrorResponse(_) | Self::LegacyError { .. } => b'E',
            Self::ReadyForQuery { .. } => b'Z',
            Self::CommandComplete { .. } => b'C',
            Self::EmptyQueryResponse => b'I',
            Self::RowDescription { .. } => b'T',
            Self::DataRow { .. } => b'D',
            Self::CopyInResponse(_) => b'G',
            Self::CopyOutResponse(_) => b'H',
            Self::CopyBothResponse(_) => b'W',
            Self::CopyData(_) => b'd',
            Self::CopyDone => b'c',
            Self::NegotiateProtocolVersion { .. } => b'v',
            Self::ParseComplete => b'1',
            Self::BindComplete => b'2',
            Self::CloseComplete => b'3',
            Self::NoData => b'n',
            Self::PortalSuspended => b's',
            Self::ParameterDescription { .. } => b't',
            Self::FunctionCallResponse { .. } => b'V',
        }
    }

    /// Returns the name of the message in PostgreSQL's manual.
    #[must_use]
    pub fn name(&self) -> &'static str {
        tags::backend(self.tag()).map_or("", |shape| shape.name)
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// A value is not valid or too long for this message. Nothing was written.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let tag = self.tag();
        if let Self::LegacyError { text } = self {
            return legacy_error(text, out);
        }
        match tags::backend(tag) {
            Some(shape) => tagged(out, tag, shape, |body| self.write(body)),
            // Not reached: the table contains every message.
            None => Ok(()),
        }
    }

    fn write(&self, body: &mut Body<'_>) -> Result<(), EncodeError> {
        match self {
            Self::Authentication(authentication) => authentication.write(body),
            Self::BackendKeyData(key) => key.write(body),
            Self::ParameterStatus { name, value } => {
                body.cstr("parameter name", name)?;
                body.cstr("parameter value", value)
            }
            Self::NoticeResponse(diagnostic) | Self::ErrorResponse(diagnostic) => {
                diagnostic.write(body)
            }
            Self::NotificationResponse(RawNotification { process_id, channel, payload }) => {
                if channel.is_empty() {
                    return Err(body.bad_value("channel", "one byte or more"));
                }
                for (field, text) in [("channel", channel), ("payload", payload)] {
                    std::str::from_utf8(text).map_err(|_| body.bad_value(field, "UTF-8"))?;
                }
                body.i32(*process_id)?;
                body.cstr("channel", channel)?;
                // Not `cstr`, because a decoded payload with a NUL inside must be encodable: N14.
                body.bytes(payload)?;
                body.u8(0)
            }
            Self::ReadyForQuery { status } => body.u8(status.byte()),
            Self::CommandComplete { tag } => body.cstr("tag", tag),
            Self::RowDescription { columns } => {
                body.count("columns", columns.len())?;
                columns.write(body)
            }
            Self::DataRow { values } => {
                body.count("values", values.len())?;
                values.write(body)
            }
            Self::CopyInResponse(copy)
            | Self::CopyOutResponse(copy)
            | Self::CopyBothResponse(copy) => copy.write(body),
            Self::CopyData(data) => body.bytes(data),
            Self::NegotiateProtocolVersion { version, options } => {
                body.u32(version.0)?;
                match i32::try_from(options.len()) {
                    Ok(count) => body.i32(count)?,
                    Err(_) => return Err(body.bad_value("options", "2147483647 or fewer")),
                }
                options.write(body)
            }
            Self::ParameterDescription { types } => {
                body.unsigned_count("parameters", types.len())?;
                types.write(body)
            }
            Self::FunctionCallResponse { value } => List::new(&[*value]).write(body),
            Self::EmptyQueryResponse
            | Self::CopyDone
            | Self::ParseComplete
            | Self::BindComplete
            | Self::CloseComplete
            | Self::NoData
            | Self::PortalSuspended
            | Self::LegacyError { .. } => Ok(()),
        }
    }
}

impl fmt::Debug for BackendMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Authentication(authentication) => write!(f, "({authentication:?})"),
            Self::BackendKeyData(key) => write!(f, "(process id {})", key.process_id),
            Self::ParameterStatus { name, value } => {
                write!(f, "({} = {})", EscapedBytes(name), EscapedBytes(value))
            }
            Self::NoticeResponse(diagnostic) | Self::ErrorResponse(diagnostic) => {
                write!(f, "({diagnostic:?})")
            }
            Self::NotificationResponse(notification) => write!(f, "({notification:?})"),
            Self::LegacyError { text: bytes } | Self::CommandComplete { tag: bytes } => {
                write!(f, "({})", EscapedBytes(bytes))
            }
            Self::ReadyForQuery { status } => write!(f, "({status:?})"),
            Self::RowDescription { columns } => write!(f, "({columns:?})"),
            Self::DataRow { values } => write!(f, "({values:?})"),
            Self::CopyInResponse(copy)
            | Self::CopyOutResponse(copy)
            | Self::CopyBothResponse(copy) => write!(f, "({copy:?})"),
            Self::CopyData(data) => write!(f, "({} bytes)", data.len()),
            Self::NegotiateProtocolVersion { version, options } => {
                write!(f, "({version}, {options:?})")
            }
            Self::ParameterDescription { types } => write!(f, "({types:?})"),
            Self::FunctionCallResponse { value } => write!(f, "({:?})", List::new(&[*value])),
            Self::EmptyQueryResponse
            | Self::CopyDone
            | Self::ParseComplete
            | Self::BindComplete
            | Self::CloseComplete
            | Self::NoData
            | Self::PortalSuspended => Ok(()),
        }
    }
}

fn legacy_error(text: &[u8], out: &mut BytesMut) -> Result<(), EncodeError> {
    const MESSAGE: &str = "ErrorResponse";
    if let Some(at) = text.iter().position(|&byte| byte == 0) {
        return Err(EncodeError::Nul { message: MESSAGE, field: "text", at });
    }
    let (bytes, max) = (text.len().saturating_add(2), in_memory(UNAUTHENTICATED_ERROR_BYTES_MAX));
    if bytes > max {
        return Err(EncodeError::TooLong { message: MESSAGE, bytes, max });
    }
    // With control characters, or with less text, a receiver would read these four bytes as a length word.
    if text.len() < 4 || text.iter().take(4).any(|byte| byte.is_ascii_control()) {
        let expected = "four printable characters or more";
        return Err(EncodeError::BadValue { message: MESSAGE, field: "text", expected });
    }
    out.extend_from_slice(b"E");
    out.extend_from_slice(text);
    out.extend_from_slice(b"\n\0");
    Ok(())
}

fn value<'a>(reader: &mut BodyReader<'a>) -> Result<Option<&'a [u8]>, DecodeError> {
    Ok(Values::read(reader, 1)?.iter().next().flatten())
}
