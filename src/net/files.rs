//! Reading of files, and the paths of the user's own files.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The largest size of a password or service file, in bytes. Real ones have a few lines.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The reason why a file was not read.
#[derive(Debug)]
pub(super) enum FileFault {
    Missing,
    /// A directory of its path cannot be entered: the file may exist or not.
    Unreachable(io::Error),
    NotRegular,
    /// Longer than this number of bytes.
    TooLong(u64),
    /// Other accounts may read or write it.
    #[cfg(unix)]
    Permissions {
        mode: u32,
        allowed: &'static str,
    },
    Io(io::Error),
}

/// Displays the rest of a sentence that begins with the name of the file.
impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("does not exist"),
            Self::Unreachable(error) => write!(f, "cannot be reached: {error}"),
            Self::NotRegular => f.write_str("is not a regular file"),
            Self::TooLong(limit) => write!(f, "has more than {limit} bytes"),
            #[cfg(unix)]
            Self::Permissions { mode, allowed } => {
                write!(
                    f,
                    "has mode {mode:04o}, which lets others read or write it: use chmod {allowed}"
                )
            }
            Self::Io(error) => write!(f, "cannot be read: {error}"),
        }
    }
}

impl FileFault {
    /// Returns whether the file does not exist, as far as this process can see. If the user did not name it, it is ignored.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Missing | Self::Unreachable(_))
    }
}

impl From<io::Error> for FileFault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // The same for a path in which a directory is a file, as in libpq.
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing,
            _ => Self::Io(error),
        }
    }
}

/// The permissions that a file may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Any.
    Any,
    /// Access for its owner only, for a file with passwords. Not checked on Windows, as in libpq.
    Owner,
    /// The rules of libpq for a private key: access for its owner only, or, if root owns it, also read access for its
    /// group. Not checked on Windows.
    #[cfg(feature = "tls")]
    Key,
}

/// Reads a whole file in a thread for blocking operations: a network file system may hang.
pub(super) async fn read(path: PathBuf, access: Access) -> Result<Zeroizing<Vec<u8>>, FileFault> {
    match tokio::task::spawn_blocking(move || read_now(&path, access, FILE_BYTES_MAX)).await {
        Ok(result) => result,
        Err(error) => Err(FileFault::Io(io::Error::other(error))),
    }
}

/// Reads a whole file in the current thread, if it has at most `limit` bytes.
pub(super) fn read_now(
    path: &Path,
    access: Access,
    limit: u64,
) -> Result<Zeroizing<Vec<u8>>, FileFault> {
    // Checked before the file is opened: opening a pipe waits for a writer.
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => FileFault::Unreachable(error),
        _ => error.into(),
    })?;
    check(&metadata, access, limit)?;
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    check(&metadata, access, limit)?;
    let room = usize::try_from(metadata.len()).unwrap_or_default().saturating_add(1);
    let bytes = read_all(file.take(limit + 1), room)?;
    if bytes.len() as u64 > limit { Err(FileFault::TooLong(limit)) } else { Ok(bytes) }
}

/// Reads to the end, with a buffer of `room` bytes at first. `read_to_end` is not used: it reads short files, and the end of
/// long ones, into a buffer on the stack, which is not cleared and may keep a copy of a password or key.
fn read_all(mut file: impl Read, room: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; room]);
    let mut filled = 0;
    loop {
        if filled == bytes.len() {
            // The file has grown since its size was read.
            let mut larger = Zeroizing::new(vec![0; bytes.len().saturating_mul(2).max(1)]);
            larger.iter_mut().zip(&**bytes).for_each(|(to, from)| *to = *from);
            bytes = larger;
        }
        match file.read(bytes.get_mut(filled..).unwrap_or_default()) {
            Ok(0) => {
                bytes.truncate(filled);
                return Ok(bytes);
            }
            Ok(read) => filled = filled.saturating_add(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn check(metadata: &fs::Metadata, access: Access, limit: u64) -> Result<(), FileFault> {
    if !metadata.is_file() {
        return Err(FileFault::NotRegular);
    }
    if metadata.len() > limit {
        return Err(FileFault::TooLong(limit));
    }
    check_permissions(metadata, access)
}

#[cfg(unix)]
fn check_permissions(metadata: &fs::Metadata, access: Access) -> Result<(), FileFault> {
    use std::os::unix::fs::MetadataExt;
    let (forbidden, allowed) = match access {
        Access::Any => (0, ""),
        Access::Owner => (0o077, "0600"),
        #[cfg(feature = "tls")]
        Access::Key if metadata.uid() == 0 => (0o037, "0640"),
        #[cfg(feature = "tls")]
        Access::Key => (0o077, "0600"),
    };
    let mode = metadata.mode() & 0o777;
    if mode & forbidden == 0 { Ok(()) } else { Err(FileFault::Permissions { mode, allowed }) }
}

#[cfg(not(unix))]
fn check_permissions(_: &fs::Metadata, _: Access) -> Result<(), FileFault> {
    Ok(())
}

/// Returns the directory of the user's own files: the home directory, or `%APPDATA%\postgresql` on Windows.
pub(super) fn home(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let directory = if cfg!(windows) {
        variable("APPDATA").map(|data| Path::new(&data).join("postgresql"))
    } else {
        // If HOME is not set, the home directory of the account.
        variable("HOME").map(PathBuf::from).or_else(std::env::home_dir)
    };
    directory.filter(|directory| !directory.as_os_str().is_empty())
}

/// Returns the path of the default password file.
pub(super) fn default_passfile(home: Option<&Path>) -> Option<PathBuf> {
    Some(home?.join(if cfg!(windows) { "pgpass.conf" } else { ".pgpass" }))
}

/// Returns the path of the default service file, which need not exist.
pub(super) fn default_service_file(home: Option<&Path>) -> Option<PathBuf> {
    Some(home?.join(".pg_service.conf"))
}
