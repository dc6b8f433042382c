//! Files of certificates and keys.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

use crate::{Error, ErrorKind};

/// Most bytes that are read of one. A system's list of authorities has 250 KB, lists of what is revoked are
/// longer.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Who may have access to a file that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Whoever has it.
    Any,
    /// As libpq has it for keys: the owner alone, and a group that may read what belongs to root. Not checked
    /// on Windows.
    Key,
}

/// Reads a file, which `what` says what it is. `None` if there is none of that name.
pub(super) fn read(
    what: &str,
    path: &Path,
    access: Access,
) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    let refused = |cause: io::Error| {
        Error::caused(ErrorKind::Config, format!("{what} {path:?} cannot be read"), cause)
    };
    // Before it is opened: opening a pipe waits for somebody to write into it.
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            let message = format!("{what} {path:?} is not a regular file");
            return Err(Error::new(ErrorKind::Config, message));
        }
        Ok(_) => {}
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(refused(error)),
    }
    let file = File::open(path).map_err(refused)?;
    let metadata = file.metadata().map_err(refused)?;
    if access == Access::Key {
        check_key(&metadata, path)?;
    }
    // Room for all of it, so that growing leaves no copy of a key behind.
    let room = usize::try_from(metadata.len().min(FILE_BYTES_MAX)).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(room.saturating_add(1)));
    let count = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(refused)?;
    if u64::try_from(count).is_ok_and(|count| count > FILE_BYTES_MAX) {
        let message = format!("{what} {path:?} has more than {FILE_BYTES_MAX} bytes");
        return Err(Error::new(ErrorKind::Config, message));
    }
    Ok(Some(bytes))
}

/// As libpq: a directory in the path that is none, too.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(unix)]
fn check_key(metadata: &fs::Metadata, path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt;

    let of_root = metadata.uid() == 0;
    let (forbidden, allowed) = if of_root { (0o037, "0640") } else { (0o077, "0600") };
    if metadata.mode() & forbidden == 0 {
        return Ok(());
    }
    let mode = metadata.mode() & 0o7777;
    let message = format!("the client's key {path:?} has mode {mode:04o}, which lets others in");
    let hint = format!("chmod {allowed}, or less");
    Err(Error::new(ErrorKind::Config, message).with_hint(hint))
}

#[cfg(not(unix))]
fn check_key(_: &fs::Metadata, _: &Path) -> Result<(), Error> {
    Ok(())
}
