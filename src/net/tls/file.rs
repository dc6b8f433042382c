//! Files of certificates and keys.

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
            Error::caused(ErrorKind::Config, format!("{what} {path:?} cannot be read"), cause)
        }
        fault => Error::new(ErrorKind::Config, format!("{what} {path:?} {fault}")),
    })
}
