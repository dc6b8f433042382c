//! The user that the server runs as. PostgreSQL refuses to run as root. `SERVERS.md`, Root.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::{PermissionsExt, fchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::files::open_directory;

/// Users that root runs servers as: the first that exists. `PGBELL_TEST_USER` has precedence.
const PREFERRED: [&str; 2] = ["postgres", "nobody"];

/// The user of server programs: the caller, or another user if the caller is root.
#[derive(Debug, Clone)]
pub(crate) struct User {
    other: Option<Identity>,
}

#[derive(Debug, Clone)]
struct Identity {
    name: String,
    uid: u32,
    gid: u32,
}

impl User {
    /// The caller, root or not.
    pub(crate) fn caller() -> Self {
        Self { other: None }
    }

    /// The caller, unless that is root.
    pub(crate) fn detect() -> Result<Self, Error> {
        match number(&["-u"]) {
            Some(0) => {}
            Some(_) => return Ok(Self::caller()),
            None => return Err(Error::new("the user of this process is unknown: `id -u` failed")),
        }
        if let Some(name) = env::var_os("PGBELL_TEST_USER") {
            let name = name.to_string_lossy().into_owned();
            return match identity(&name) {
                Some(found) => Ok(Self { other: Some(found) }),
                None => Err(Error::new(format!(
                    "PGBELL_TEST_USER is {name:?}, which is not a user other than root"
                ))),
            };
        }
        match PREFERRED.iter().find_map(|name| identity(name)) {
            Some(found) => Ok(Self { other: Some(found) }),
            None => Err(Error::new(
                "PostgreSQL does not run as root, and neither user `postgres` nor `nobody` exists: \
                 set PGBELL_TEST_USER",
            )),
        }
    }

    /// Returns whether the caller is root. An unknown caller counts as root.
    pub(crate) fn caller_is_root() -> bool {
        Self::caller_number().is_none_or(|number| number == 0)
    }

    /// Returns the user id of the caller. `None` if it is not known.
    pub(crate) fn caller_number() -> Option<u32> {
        number(&["-u"])
    }

    /// Returns whether the server's user is not the caller.
    pub(crate) fn is_other(&self) -> bool {
        self.other.is_some()
    }

    pub(crate) fn name(&self) -> &str {
        self.other.as_ref().map_or("the caller", |other| &other.name)
    }

    /// Returns a command that runs as that user, with only the groups of that user, a minimal environment, no input, and a
    /// process group of its own, so that signals of the terminal do not reach it.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir("/").stdin(Stdio::null()).process_group(0);
        command.envs([("LC_ALL", "C"), ("TZ", "UTC")]);
        for kept in ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
            if let Some(value) = env::var_os(kept) {
                command.env(kept, value);
            }
        }
        if let Some(other) = &self.other {
            // With a uid and no list of groups, std also clears the supplementary groups.
            command.uid(other.uid).gid(other.gid);
        }
        command
    }

    /// Makes that user the owner of a directory. The path must not be a link.
    pub(crate) fn give(&self, path: &Path) -> Result<(), Error> {
        match &self.other {
            Some(other) => open_directory(path)
                .and_then(|dir| fchown(dir, Some(other.uid), Some(other.gid)))
                .map_err(Error::on("change the owner of", path)),
            None => Ok(()),
        }
    }

    /// Allows that user, and no other user, to enter a directory of root.
    pub(crate) fn let_in(&self, path: &Path) -> io::Result<()> {
        let dir = open_directory(path)?;
        if let Some(other) = &self.other {
            fchown(&dir, None, Some(other.gid))?;
        }
        dir.set_permissions(PermissionsExt::from_mode(0o750))
    }

    /// Returns the id of the user's group, if the user is not the caller.
    pub(crate) fn group(&self) -> Option<u32> {
        self.other.as_ref().map(|other| other.gid)
    }

    /// Returns whether that user can enter the directory.
    pub(crate) fn can_enter(&self, dir: &Path) -> bool {
        let mut probe = self.command("/bin/sh");
        probe.args(["-c", r#"cd -- "$1""#, "sh"]).arg(dir);
        probe.stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    }
}

fn identity(name: &str) -> Option<Identity> {
    if name.is_empty() || name.starts_with('-') {
        return None;
    }
    let (uid, gid) = (number(&["-u", name])?, number(&["-g", name])?);
    (uid != 0).then(|| Identity { name: name.to_owned(), uid, gid })
}

/// Returns what `id` prints, so that every user database of the system is used.
fn number(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).stdin(Stdio::null()).output().ok()?;
    if !output.status.success() {
        return None;
    }
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_one_group_and_no_privilege() {
        let user = User::detect().unwrap();
        let output = user.command("/bin/sh").args(["-c", "id -u; id -G"]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let mut lines = said.lines();
        assert_ne!(lines.next(), Some("0"), "the server's user must not be root");
        if let Some(other) = &user.other {
            assert_eq!(lines.next(), Some(other.gid.to_string().as_str()));
        }
    }

    #[test]
    fn root_and_nonsense_are_no_users_to_become() {
        for name in ["root", "", "-u", "no such user"] {
            assert!(identity(name).is_none(), "{name:?}");
        }
    }
}
