//! New data directories that are kept, so that `initdb` does not run for each cluster.
//!
//! A template is an archive in a directory that only the caller can enter. The server's user reads and writes it through a
//! file that the caller has opened, and does everything else in its own data directory. An archive is complete, or does not
//! exist: it is written under another name and renamed.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::Error;
use crate::fingerprint;
use crate::guard::is_safe;
use crate::server::Server;
use crate::user::User;

/// The data directory of a certain program, user and set of options, as `initdb` leaves it.
#[derive(Debug)]
pub(crate) struct Template {
    dir: PathBuf,
    name: String,
}

impl Template {
    /// Returns the template for such a server. The directory must exist.
    pub(crate) fn new(
        dir: &Path,
        server: &Server,
        version: &str,
        options: &[&str],
    ) -> Result<Self, Error> {
        let dir = fs::canonicalize(dir).map_err(Error::on("find the directory", dir))?;
        checked_dir(&dir)?;
        let postgres = fingerprint::program(&server.bin.join("postgres"))?;
        let initdb = fingerprint::program(&server.bin.join("initdb"))?;
        // An archive of one user is not unpacked by another one.
        let user = server.scratch.user().name();
        let made_by = format!("{version}|{postgres}|{initdb}|{options:?}|{user}");
        Ok(Self { dir, name: fingerprint::name(&made_by) })
    }

    fn path(&self) -> PathBuf {
        self.dir.join(format!("{}.tar", self.name))
    }

    /// Fills the empty data directory. Returns `false` if there is no template yet.
    pub(crate) fn unpack(&self, server: &Server) -> Result<bool, Error> {
        let path = self.path();
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path);
        let file = match opened {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened.map_err(Error::on("open", &path))?,
        };
        let found = file.metadata().map_err(Error::on("read the metadata of", &path))?;
        if !found.is_file() || is_open_to_others(&found) {
            return Err(unusable("file", &path, &found));
        }
        let mut unpack = tar(server, "-xpf");
        unpack.stdin(file);
        let what = format!("tar, which unpacks {},", path.display());
        server.scratch.run(&what, &mut unpack)?;
        Ok(true)
    }

    /// Keeps the contents of the data directory. If another process has just done that too, both are the same, and one remains.
    pub(crate) fn pack(&self, server: &Server) -> Result<(), Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let unfinished = format!("unfinished-{}-{number}-{}", process::id(), self.name);
        let unfinished = self.dir.join(unfinished);
        // Left by an earlier process with the same id.
        let _ = fs::remove_file(&unfinished);
        let kept = self.write(server, &unfinished).and_then(|()| {
            let path = self.path();
            fs::rename(&unfinished, &path).map_err(Error::on("make", &path))
        });
        if kept.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        kept
    }

    fn write(&self, server: &Server, path: &Path) -> Result<(), Error> {
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = created.map_err(Error::on("create", path))?;
        let mut pack = tar(server, "-cf");
        pack.stdout(file.try_clone().map_err(Error::on("write", path))?);
        let what = format!("tar, which makes {},", path.display());
        server.scratch.run(&what, &mut pack)?;
        // So that after a crash of the machine a file with this name is complete.
        file.sync_all().map_err(Error::on("write", path))
    }
}

/// Returns a `tar` command in the data directory, with its standard input or output as the archive. The guard needs the
/// directory's name among its arguments.
fn tar(server: &Server, action: &str) -> Command {
    let mut tar = server.scratch.command(Path::new("tar"));
    tar.args([action, "-", "-C"]).arg(server.data());
    if action == "-cf" {
        tar.arg(".");
    }
    tar
}

/// Returns an error unless only the caller can enter the directory. The path must have no link.
fn checked_dir(dir: &Path) -> Result<(), Error> {
    let found = fs::symlink_metadata(dir).map_err(Error::on("read the metadata of", dir))?;
    if !found.is_dir() || is_open_to_others(&found) {
        return Err(unusable("directory", dir, &found));
    }
    if !is_safe(dir) {
        return Err(Error::new(format!(
            "another user can exchange the templates in {}: it and all above it must be root's, and not open to others, \
             or sticky as /tmp is",
            dir.display()
        )));
    }
    Ok(())
}

/// Returns whether the file does not belong to the caller, or others have any right to it.
fn is_open_to_others(found: &fs::Metadata) -> bool {
    User::caller_number() != Some(found.uid()) || found.mode() & 0o077 != 0
}

fn unusable(kind: &str, path: &Path, found: &fs::Metadata) -> Error {
    Error::new(format!(
        "{} is not a {kind} that only the caller can use (owner {}, mode {:o}): remove it",
        path.display(),
        found.uid(),
        found.mode() & 0o7777
    ))
}
