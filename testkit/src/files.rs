//! Files in a data directory and beside it.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::error::Error;

/// Appends to a file that is there, whose owner and mode stay.
pub(crate) fn append(path: &Path, text: &str) -> Result<(), Error> {
    OpenOptions::new()
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(Error::on("write", path))
}

/// Writes a file that is there anew: its owner and mode stay.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> Result<(), Error> {
    fs::write(path, contents).map_err(Error::on("write", path))
}

/// Writes a file of mode 0600.
pub(crate) fn write_private(path: &Path, contents: &[u8]) -> Result<(), Error> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(contents)
        })
        .map_err(Error::on("write", path))
}
