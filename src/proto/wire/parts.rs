//! Parts of the server's messages that are not lists: keys, states, formats.

use std::fmt;

use super::cursor::{Body, BodyReader};
use super::error::{DecodeError, EncodeError};
use super::limits::{SECRET_KEY_BYTES_MAX, SECRET_KEY_BYTES_MIN};
use super::list::{Formats, List};

/// The process id and the secret key of a session. `Debug` does not show the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BackendKeyData<'a> {
    /// The process id of the backend. A pooler may send any number here.
    pub process_id: i32,
    /// The secret key: 4 bytes in protocol 3.0, 4 to 256 in 3.2.
    // N6.
    pub secret_key: &'a [u8],
}

impl<'a> BackendKeyData<'a> {
    pub(crate) fn decode(reader: &mut BodyReader<'a>) -> Result<Self, DecodeError> {
        let process_id = reader.i32("process id")?;
        Ok(Self { process_id, secret_key: secret_key(reader)? })
    }

    pub(crate) fn write(&self, body: &mut Body<'_>) -> Result<(), EncodeError> {
        body.i32(self.process_id)?;
        write_secret_key(body, self.secret_key)
    }
}

/// Reads the rest of a body, which must have the length of a secret key. T19.
pub(crate) fn secret_key<'a>(reader: &mut BodyReader<'a>) -> Result<&'a [u8], DecodeError> {
    let key = reader.rest();
    if (SECRET_KEY_BYTES_MIN..=SECRET_KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(key);
    }
    let length = i64::try_from(key.len()).unwrap_or(i64::MAX);
    Err(reader.bad_value("secret key length", "4 to 256", length))
}

/// Writes a secret key, which must have a valid length.
pub(crate) fn write_secret_key(body: &mut Body<'_>, key: &[u8]) -> Result<(), EncodeError> {
    if (SECRET_KEY_BYTES_MIN..=SECRET_KEY_BYTES_MAX).contains(&key.len()) {
        return body.bytes(key);
    }
    Err(body.bad_value("secret key", "4 to 256 bytes"))
}

impl fmt::Debug for BackendKeyData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendKeyData")
            .field("process_id", &self.process_id)
            .finish_non_exhaustive()
    }
}

/// The state of the transaction when the server is ready for the next command.
///
/// ```no_run
/// # async fn example(mut connection: pgbell::Connection) -> Result<(), pgbell::Error> {
/// use pgbell::TransactionStatus;
///
/// connection.simple_query("BEGIN").await?;
/// assert_eq!(connection.transaction_status(), TransactionStatus::InTransaction);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionStatus {
    /// `I`: no transaction is open. The server sends notifications only in this state.
    Idle,
    /// `T`: a transaction is open.
    InTransaction,
    /// `E`: a transaction is open and has failed.
    Failed,
}

impl TransactionStatus {
    pub(crate) fn decode(reader: &mut BodyReader<'_>) -> Result<Self, DecodeError> {
        match reader.u8("transaction status")? {
            b'I' => Ok(Self::Idle),
            b'T' => Ok(Self::InTransaction),
            b'E' => Ok(Self::Failed),
            other => Err(reader.bad_value("transaction status", "I, T or E", other.into())),
        }
    }

    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }
}

/// The formats of a COPY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyResponse<'a> {
    /// The format of the whole COPY: 0 text, 1 binary.
    pub format: u8,
    /// The format of each column.
    pub columns: Formats<'a>,
}

impl<'a> CopyResponse<'a> {
    pub(crate) fn decode(reader: &mut BodyReader<'a>) -> Result<Self, DecodeError> {
        let format = reader.u8("copy format")?;
        if format > 1 {
            return Err(reader.bad_value("copy format", "0 or 1", format.into()));
        }
        let count = reader.count("column count")?;
        Ok(Self { format, columns: List::read(reader, count)? })
    }

    pub(crate) fn write(&self, body: &mut Body<'_>) -> Result<(), EncodeError> {
        if self.format > 1 {
            return Err(body.bad_value("copy format", "0 or 1"));
        }
        body.u8(self.format)?;
        body.count("columns", self.columns.len())?;
        self.columns.write(body)
    }
}
