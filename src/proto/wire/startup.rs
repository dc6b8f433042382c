//! The first packet of a client. It has no type byte, but a code after the length word.

use std::fmt;

use bytes::BytesMut;

use super::cursor::{BodyReader, untagged};
use super::error::{DecodeError, EncodeError};
use super::framer::FirstPacket;
use super::limits::STARTUP_BODY_BYTES_MAX;
use super::list::{List, StartupParameters};
use super::parts::{secret_key, write_secret_key};
use super::version::ProtocolVersion;

const CANCEL_REQUEST: u32 = 0x04d2_162e;
const SSL_REQUEST: u32 = 0x04d2_162f;
const GSSENC_REQUEST: u32 = 0x04d2_1630;
/// The major number of the codes that are requests and not versions.
const REQUEST_MAJOR: u32 = 1234;

/// The first packet of a client. `Debug` does not show a secret key.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartupPacket<'a> {
    /// StartupMessage.
    Startup {
        /// The version that the client requests.
        version: ProtocolVersion,
        /// `user`, `database`, `application_name` and so on.
        parameters: StartupParameters<'a>,
    },
    /// SSLRequest.
    SslRequest,
    /// GSSENCRequest.
    GssEncRequest,
    /// CancelRequest.
    CancelRequest {
        /// The process id of BackendKeyData.
        process_id: i32,
        /// The secret key of BackendKeyData.
        secret_key: &'a [u8],
    },
}

impl<'a> StartupPacket<'a> {
    /// Decodes a first packet.
    ///
    /// # Errors
    /// The code is unknown, or the body is not valid for this code, or has more bytes.
    pub fn decode(packet: FirstPacket<'a>) -> Result<Self, DecodeError> {
        let mut reader = BodyReader::new("startup packet", packet.body);
        let decoded = match reader.u32("code")? {
            SSL_REQUEST => Self::SslRequest,
            GSSENC_REQUEST => Self::GssEncRequest,
            CANCEL_REQUEST => {
                let process_id = reader.i32("process id")?;
                let secret_key = secret_key(&mut reader)?;
                Self::CancelRequest { process_id, secret_key }
            }
            code if code >> 16 == REQUEST_MAJOR => {
                return Err(reader.bad_value("code", "a version or a request", code.into()));
            }
            code => {
                let version = ProtocolVersion(code);
                Self::Startup { version, parameters: parameters(&mut reader)? }
            }
        };
        reader.finish()?;
        Ok(decoded)
    }

    /// Appends the packet to `out`.
    ///
    /// # Errors
    /// A parameter contains a NUL, after which its rest would be another parameter; a name is
    /// empty; the body is longer than [`STARTUP_BODY_BYTES_MAX`]; the version is the code of a request; the length of the
    /// key is not valid. Nothing was written.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let cap = STARTUP_BODY_BYTES_MAX.saturating_add(4);
        match self {
            Self::SslRequest => untagged(out, "SSLRequest", cap, |body| body.u32(SSL_REQUEST)),
            Self::GssEncRequest => {
                untagged(out, "GSSENCRequest", cap, |body| body.u32(GSSENC_REQUEST))
            }
            Self::CancelRequest { process_id, secret_key } => {
                untagged(out, "CancelRequest", cap, |body| {
                    body.u32(CANCEL_REQUEST)?;
                    body.i32(*process_id)?;
                    write_secret_key(body, secret_key)
                })
            }
            Self::Startup { version, parameters } => untagged(out, "StartupMessage", cap, |body| {
                if version.major() == REQUEST_MAJOR {
                    return Err(body.bad_value("version", "a version, not a request code"));
                }
                body.u32(version.0)?;
                parameters.write(body)?;
                body.u8(0)
            }),
        }
    }
}

/// Reads pairs of strings up to an empty name.
fn parameters<'a>(reader: &mut BodyReader<'a>) -> Result<StartupParameters<'a>, DecodeError> {
    let mut probe = *reader;
    let mut count = 0_usize;
    while !probe.cstr("parameter name")?.is_empty() {
        probe.cstr("parameter value")?;
        count = count.saturating_add(1);
    }
    let parameters = List::read(reader, count)?;
    reader.u8("terminator")?;
    Ok(parameters)
}

impl fmt::Debug for StartupPacket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Startup { version, parameters } => f
                .debug_struct("Startup")
                .field("version", version)
                .field("parameters", parameters)
                .finish(),
            Self::SslRequest => f.write_str("SslRequest"),
            Self::GssEncRequest => f.write_str("GssEncRequest"),
            Self::CancelRequest { process_id, .. } => f
                .debug_struct("CancelRequest")
                .field("process_id", process_id)
                .finish_non_exhaustive(),
        }
    }
}
