//! The only file that reads files, and knows where the user's own ones are.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Most bytes that are read of a password or service file. Real ones have a few lines.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why a file was not read.
#[derive(Debug)]
pub(super) enum FileFault {
    Missing,
    /// A directory of its path cannot be entered: whether it exists is not known.
    Unreachable(io::Error),
    NotRegular,
    /// Longer than this.
    TooLong(u64),
    /// Others may read or write it.
    #[cfg(unix)]
    Permissions {
        mode: u32,
        allowed: &'static str,
    },
    Io(io::Error),
}

/// What follows the name of the file in a sentence.
impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("does not exist"),
            Self::Unreachable(error) => write!(f, "cannot be reached: {error}"),
            Self::NotRegular => f.write_str("is not a regular file"),
            Self::TooLong(limit) => write!(f, "has more than {limit} bytes"),
            #[cfg(unix)]
            Self::Permissions { mode, allowed } => {
                write!(f, "has mode {mode:04o}, which lets others in: chmod {allowed} cures it")
            }
            Self::Io(error) => write!(f, "cannot be read: {error}"),
        }
    }
}

impl FileFault {
    /// Whether a file that the user did not name is passed over: as far as this process can see, there is none.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Missing | Self::Unreachable(_))
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
    /// As libpq has it for keys: the owner alone, and a group that may read what belongs to root. Not checked
    /// on Windows.
    #[cfg(feature = "tls")]
    Key,
}

/// Reads a file whole, off the threads that run tasks: a network file system may hang.
pub(super) async fn read(path: PathBuf, access: Access) -> Result<Zeroizing<Vec<u8>>, FileFault> {
    match tokio::task::spawn_blocking(move || read_now(&path, access, FILE_BYTES_MAX)).await {
        Ok(result) => result,
        Err(error) => Err(FileFault::Io(io::Error::other(error))),
    }
}

/// Reads a file whole, here and now, if it has at most `limit` bytes.
pub(super) fn read_now(
    path: &Path,
    access: Access,
    limit: u64,
) -> Result<Zeroizing<Vec<u8>>, FileFault> {
    // Before it is opened: opening a pipe waits for somebody to write into it.
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

/// Reads to the end, with room for so many bytes at first. No copy of a password or key stays behind: `read_to_end` reads
/// what is short, and the end of the rest, into a buffer on the stack, which is not cleared.
fn read_all(mut file: impl Read, room: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; room]);
    let mut filled = 0;
    loop {
        if filled == bytes.len() {
            // The file has grown since it was measured.
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
