//! Files in the cluster's directories. None of them is reached through a symbolic link.
//!
//! Files of the server's user are written and read as that user. That user may have put a link in their place, but
//! gets no further rights by it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use crate::error::Error;
use crate::user::User;

/// The largest number of bytes that are read from a small file of the server.
const SMALL_BYTES_MAX: u64 = 64 * 1024;

/// `$1` is the file. It is written under another name and renamed, so an existing file or link of its name is replaced as a
/// whole.
const WRITE: &str = r#"
set -C; umask 077
rm -f -- "$1.new" && cat >"$1.new" && mv -f -- "$1.new" "$1"
"#;

/// Creates a file of the caller with this mode, for any umask. Neither a file nor a link may exist.
pub(crate) fn create(path: &Path, contents: &[u8], mode: u32) -> Result<(), Error> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.write_all(contents)?;
            file.set_permissions(PermissionsExt::from_mode(mode))
        })
        .map_err(Error::on("write", path))
}

/// Writes a file of mode 0600 as the user, and replaces an existing one.
pub(crate) fn write_as(user: &User, path: &Path, contents: &[u8]) -> Result<(), Error> {
    let mut command = user.command("/bin/sh");
    command.args(["-c", WRITE, "sh"]).arg(path);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let written = command.spawn().and_then(|mut child| {
        if let Some(mut input) = child.stdin.take() {
            match input.write_all(contents) {
                // The program has ended with an error, which its output says.
                Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => return Err(cause),
                _ => {}
            }
        }
        child.wait_with_output()
    });
    let output = written.map_err(Error::on("write", path))?;
    finished(output.status.success(), &output.stderr).map_err(Error::on("write", path))
}

/// Reads a file whole as the user.
pub(crate) fn read_as(user: &User, path: &Path) -> Result<Vec<u8>, Error> {
    let output = user.command("cat").arg("--").arg(path).output();
    let output = output.map_err(Error::on("read", path))?;
    finished(output.status.success(), &output.stderr).map_err(Error::on("read", path))?;
    Ok(output.stdout)
}

/// Appends to a file as the user, by writing it again.
pub(crate) fn append_as(user: &User, path: &Path, text: &str) -> Result<(), Error> {
    let mut contents = read_as(user, path)?;
    contents.extend_from_slice(text.as_bytes());
    write_as(user, path, &contents)
}

fn finished(success: bool, said: &[u8]) -> io::Result<()> {
    let said = String::from_utf8_lossy(said);
    if success { Ok(()) } else { Err(io::Error::other(said.trim().to_owned())) }
}

/// Returns the beginning of a small file that the server writes. Empty if it is not a regular file: no link is followed, and
/// no pipe is waited for.
pub(crate) fn read_small(path: &Path) -> String {
    let read = || {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a file"));
        }
        let mut bytes = Vec::new();
        file.take(SMALL_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}

/// Opens a directory, not a link to one.
pub(crate) fn open_directory(path: &Path) -> io::Result<File> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::guard::Scratch;

    #[test]
    fn no_file_is_created_through_a_link() {
        let scratch = Scratch::new(&User::caller(), None).unwrap();
        let (link, victim) = (scratch.data().join("link"), scratch.data().join("victim"));
        symlink(&victim, &link).unwrap();
        create(&link, b"x", 0o600).unwrap_err();
        assert!(!victim.exists(), "created behind the link");
        fs::write(&victim, "before").unwrap();
        create(&link, b"x", 0o600).unwrap_err();
        assert_eq!(read_small(&link), "");
        write_as(&User::caller(), &link, b"x").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "before");
        assert_eq!(read_small(&link), "x", "the link is replaced");
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let scratch = Scratch::new(&User::caller(), None).unwrap();
        let pipe = scratch.data().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        for path in [&pipe, scratch.home(), Path::new("/dev/zero"), Path::new("/nonexistent")] {
            assert_eq!(read_small(path), "", "{path:?}");
        }
        let error = read_as(&User::caller(), Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent"), "{error}");
    }
}
