//! The only file that reads the user's small configuration files, and knows where they are.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Most bytes that are read of a password or service file. Real ones have a few lines.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Permissions of a group and of everybody else.
#[cfg(unix)]
const OTHERS: u32 = 0o077;

/// Why a file was not read.
#[derive(Debug)]
pub(super) enum FileFault {
    Missing,
    NotRegular,
    TooLong,
    /// Others may read or write it. The mode's last nine bits.
    #[cfg(unix)]
    Permissions(u32),
    Io(io::Error),
}

/// What follows the name of the file in a sentence.
impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("does not exist"),
            Self::NotRegular => f.write_str("is not a regular file"),
            Self::TooLong => write!(f, "has more than {FILE_BYTES_MAX} bytes"),
            #[cfg(unix)]
            Self::Permissions(mode) => {
                write!(f, "has mode {mode:04o}, which lets others in: chmod 0600 cures it")
            }
            Self::Io(error) => write!(f, "cannot be read: {error}"),
        }
    }
}

impl From<io::Error> for FileFault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A directory in the path that is none, too, as for libpq.
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing,
            _ => Self::Io(error),
        }
    }
}

/// Who may have access to a file that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Whoever has it.
    Any,
    /// Its owner alone, as for a file with passwords. Not checked on Windows, as in libpq.
    Owner,
}

/// Reads a file whole, off the threads that run tasks: a network file system may hang.
pub(super) async fn read(path: PathBuf, access: Access) -> Result<Zeroizing<Vec<u8>>, FileFault> {
    match tokio::task::spawn_blocking(move || read_now(&path, access)).await {
        Ok(result) => result,
        Err(error) => Err(FileFault::Io(io::Error::other(error))),
    }
}

fn read_now(path: &Path, access: Access) -> Result<Zeroizing<Vec<u8>>, FileFault> {
    // Before it is opened: opening a pipe waits for somebody to write into it.
    check(&fs::metadata(path)?, access)?;
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    check(&metadata, access)?;
    // Room for all of it, so that growing leaves no copy of a password behind.
    let room = usize::try_from(metadata.len()).unwrap_or_default().saturating_add(1);
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    // The file may grow while it is read.
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if read as u64 > FILE_BYTES_MAX { Err(FileFault::TooLong) } else { Ok(text) }
}

fn check(metadata: &fs::Metadata, access: Access) -> Result<(), FileFault> {
    if !metadata.is_file() {
        return Err(FileFault::NotRegular);
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(FileFault::TooLong);
    }
    #[cfg(unix)]
    if access == Access::Owner {
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
        if mode & OTHERS != 0 {
            return Err(FileFault::Permissions(mode));
        }
    }
    #[cfg(not(unix))]
    let (Access::Any | Access::Owner) = access;
    Ok(())
}

/// Where the user's own files are: the home directory, and `%APPDATA%\postgresql` on Windows.
pub(super) fn home(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let directory = if cfg!(windows) {
        variable("APPDATA").map(|data| Path::new(&data).join("postgresql"))
    } else {
        // The account's own directory where HOME is not set.
        variable("HOME").map(PathBuf::from).or_else(std::env::home_dir)
    };
    directory.filter(|directory| !directory.as_os_str().is_empty())
}

/// The password file that is used when none is named.
pub(super) fn default_passfile(home: Option<&Path>) -> Option<PathBuf> {
    Some(home?.join(if cfg!(windows) { "pgpass.conf" } else { ".pgpass" }))
}

/// The service file that is used when none is named, if it exists.
pub(super) fn default_service_file(home: Option<&Path>) -> Option<PathBuf> {
    Some(home?.join(".pg_service.conf"))
}
