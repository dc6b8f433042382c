//! Reading of files with certificates and keys.

use std::borrow::Cow;
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind};
pub(super) use crate::net::files::Access;
use crate::net::files::{FileFault, read_now};

/// The largest size of a file, in bytes. A system's list of authorities has 250 KB, lists of revoked certificates are
/// longer.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// The byte-order mark, U+FEFF in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a file that the user named. `what` describes it in errors. `None` if it does not exist.
pub(super) fn read_named(
    what: &str,
    path: &Path,
    access: Access,
) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    read(what, path, access, |fault| matches!(fault, FileFault::Missing))
}

/// Reads a file at its default path. `None` if it does not exist, or is in a directory that this process cannot enter.
pub(super) fn read_default(
    what: &str,
    path: &Path,
    access: Access,
) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    read(what, path, access, FileFault::is_absence)
}

/// Reads a file. `None` if there is a fault, and `is_none` returns true for it.
fn read(
    what: &str,
    path: &Path,
    access: Access,
    is_none: impl Fn(&FileFault) -> bool,
) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    match read_now(path, access, FILE_BYTES_MAX) {
        Ok(bytes) => Ok(Some(without_mark(bytes))),
        Err(fault) if is_none(&fault) => Ok(None),
        Err(fault) => Err(unusable(what, path, fault)),
    }
}

/// Removes one byte-order mark, which some editors write at the start of a text.
fn without_mark(mut bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if bytes.starts_with(MARK) {
        bytes.drain(..MARK.len());
    }
    bytes
}

#[cold]
fn unusable(what: &str, path: &Path, fault: FileFault) -> Error {
    match fault {
        FileFault::Io(cause) => {
            let message = format!("{what} {path:?} cannot be read");
            Error::caused(ErrorKind::Config, message, cause).passing()
        }
        fault => wrong(format!("{what} {path:?} {fault}")),
    }
}

/// Returns an error about a file. It is transient, because the next attempt reads the file again.
#[cold]
pub(super) fn wrong(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, message).passing()
}
