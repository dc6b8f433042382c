//! Files of certificates and keys.

use std::borrow::Cow;
use std::path::Path;

use zeroize::Zeroizing;

pub(super) use crate::net::files::Access;
use crate::net::files::{FileFault, read_now};
use crate::{Error, ErrorKind};

/// Most bytes that are read of one. A system's list of authorities has 250 KB, lists of what is revoked are
/// longer.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Reads a file, which `what` says what it is. `None` if there is none of that name.
pub(super) fn read(
    what: &str,
    path: &Path,
    access: Access,
) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    let fault = match read_now(path, access, FILE_BYTES_MAX) {
        Ok(bytes) => return Ok(Some(bytes)),
        Err(FileFault::Missing) => return Ok(None),
        Err(fault) => fault,
    };
    Err(match fault {
        FileFault::Io(cause) => {
            let message = format!("{what} {path:?} cannot be read");
            Error::caused(ErrorKind::Config, message, cause).passing()
        }
        fault => wrong(format!("{what} {path:?} {fault}")),
    })
}

/// What is wrong with a file. The next attempt reads it anew.
#[cold]
pub(super) fn wrong(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, message).passing()
}
