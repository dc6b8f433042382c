//! The log of a server.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::error::Error;
use crate::guard::Scratch;

/// The largest part of the log in an error, in bytes.
const TAIL_BYTES: usize = 4_000;

/// The file for a program's output, for all of its starts.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
}

impl Log {
    pub(crate) fn of(scratch: &Scratch) -> Self {
        Self { path: scratch.log() }
    }

    /// Redirects the output of the command to this file. Returns the position where it begins.
    pub(crate) fn attach(&self, command: &mut Command) -> Result<u64, Error> {
        // Private, and in a directory of the caller: the program writes to it only by its handles.
        let open = || {
            let mut options = OpenOptions::new();
            options.create(true).append(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            options.open(&self.path)
        };
        let output = open().map_err(Error::on("open", &self.path))?;
        let errors = open().map_err(Error::on("open", &self.path))?;
        command.stdout(output).stderr(errors);
        Ok(self.length())
    }

    pub(crate) fn length(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |found| found.len())
    }

    pub(crate) fn all(&self) -> String {
        self.since(0).unwrap_or_default()
    }

    /// Returns what was written from a position on.
    pub(crate) fn since(&self, begin: u64) -> io::Result<String> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(begin))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Returns the end of the log, from `begin` at the earliest.
    pub(crate) fn tail(&self, begin: u64) -> String {
        match self.since(begin) {
            Ok(text) => {
                let mut from = text.len().saturating_sub(TAIL_BYTES);
                while !text.is_char_boundary(from) {
                    from += 1;
                }
                text.get(from..).unwrap_or_default().trim_end().to_owned()
            }
            Err(cause) => format!("(no log: {cause})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::User;

    #[test]
    fn a_tail_is_short_and_begins_with_a_whole_character() {
        let scratch = Scratch::new(&User::caller(), None).unwrap();
        let log = Log::of(&scratch);
        assert!(log.tail(0).starts_with("(no log: "));
        assert_eq!(log.length(), 0);
        fs::write(scratch.log(), format!("x{}\n", "é".repeat(TAIL_BYTES))).unwrap();
        let tail = log.tail(0);
        assert!(tail.chars().all(|c| c == 'é'), "{tail}");
        assert!((TAIL_BYTES - 2..=TAIL_BYTES).contains(&tail.len()));
        assert_eq!(log.tail(log.length() - 3), "é");
    }
}
