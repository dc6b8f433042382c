//! Programs that the server's user cannot reach, for example below a home directory of mode 0700, are copied
//! to a directory that it can enter.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use crate::error::Error;
use crate::fingerprint;
use crate::guard::shared_parent;
use crate::user::User;

/// A copy that is not finished after this time was left by a process that was killed.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// The parts of an installation that a server needs, in the directory above `bin`.
const PARTS: [&str; 3] = ["bin", "lib", "share"];

/// Returns the directory of the programs for this user: that of the installation, or that of a copy if the user cannot enter
/// it.
pub(crate) fn programs(bin: &Path, user: &User) -> Result<PathBuf, Error> {
    if !user.is_other() || user.can_enter(bin) {
        return Ok(bin.to_owned());
    }
    let copy = copied(bin, user)?;
    if user.can_enter(&copy) {
        return Ok(copy);
    }
    Err(Error::new(format!(
        "the server's user ({}) cannot reach the copy of PostgreSQL in {}",
        user.name(),
        copy.display()
    )))
}

fn copied(bin: &Path, user: &User) -> Result<PathBuf, Error> {
    let prefix = bin.parent().filter(|prefix| {
        bin.ends_with("bin") && PARTS.iter().all(|part| prefix.join(part).is_dir())
    });
    let Some(prefix) = prefix else {
        return Err(Error::new(format!(
            "the server's user ({}) cannot reach the programs in {}, and they are not a bin, lib and share that \
             could be copied: make the directory reachable, or set PGBELL_TEST_USER",
            user.name(),
            bin.display()
        )));
    };
    let cache = cache(&shared_parent(user)?)?;
    let copy = cache.join(name(bin, user)?);
    if !copy.exists() {
        make(prefix, &cache, &copy, user)?;
    }
    Ok(copy.join("bin"))
}

/// Returns the directory of all copies. Its name can be guessed, so a directory of another user is refused.
fn cache(parent: &Path) -> Result<PathBuf, Error> {
    // Only root copies programs: other callers run the server with their own account.
    let cache = parent.join("pgbell-servers-0");
    match DirBuilder::new().mode(0o755).create(&cache) {
        // The umask changes the mode.
        Ok(()) => fs::set_permissions(&cache, fs::Permissions::from_mode(0o755))
            .map_err(Error::on("open to others", &cache))?,
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
        Err(cause) => return Err(Error::on("create", &cache)(cause)),
    }
    let found = fs::symlink_metadata(&cache).map_err(Error::on("read the metadata of", &cache))?;
    if !found.is_dir() || found.uid() != 0 || found.mode() & 0o022 != 0 {
        return Err(Error::new(format!(
            "{} is not a directory that only root can write to (owner {}, mode {:o}): remove it",
            cache.display(),
            found.uid(),
            found.mode() & 0o7777
        )));
    }
    Ok(cache)
}

/// Returns a name that is the same for the same path, size and time of `postgres`, and for the same user.
fn name(bin: &Path, user: &User) -> Result<String, Error> {
    let postgres = fingerprint::program(&bin.join("postgres"))?;
    Ok(fingerprint::name(&format!("{postgres}|{:?}", user.group())))
}

/// Copies under another name and renames: a copy is complete, or does not exist. Files that others cannot read can be read in
/// the copy only by the server's user.
fn make(prefix: &Path, cache: &Path, copy: &Path, user: &User) -> Result<(), Error> {
    remove_abandoned(cache);
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let unfinished = cache.join(format!("unfinished-{}-{number}", process::id()));
    let _ = fs::remove_dir_all(&unfinished);
    let made = DirBuilder::new()
        .mode(0o700)
        .create(&unfinished)
        .and_then(|()| Original::new(prefix))
        .and_then(|original| {
            let mut parts = PARTS.iter();
            parts.try_for_each(|part| original.copy(&prefix.join(part), &unfinished.join(part)))
        })
        .and_then(|()| user.let_in(&unfinished))
        .and_then(|()| match fs::rename(&unfinished, copy) {
            // Another process was first.
            Err(_) if copy.is_dir() => Ok(()),
            outcome => outcome,
        });
    // It does not exist any more if it was renamed.
    let _ = fs::remove_dir_all(&unfinished);
    made.map_err(Error::on("copy the programs to", copy))
}

fn remove_abandoned(cache: &Path) {
    let Ok(entries) = fs::read_dir(cache) else { return };
    for entry in entries.flatten() {
        let unfinished = entry.file_name().as_encoded_bytes().starts_with(b"unfinished-");
        let age = entry.metadata().and_then(|found| found.modified()).ok();
        let age = age.and_then(|time| SystemTime::now().duration_since(time).ok());
        if unfinished && age.is_some_and(|age| age > ABANDONED_AFTER) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn directory(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// An installation that is copied so that other users can read it.
///
/// The copy has only files of the installation that belong to the installation's owner or that all users can read. Neither a
/// link nor an exchanged directory leads to other files, not even if it is put there during the copy.
struct Original<'a> {
    /// The path, without links.
    prefix: &'a Path,
    owner: u32,
}

impl<'a> Original<'a> {
    fn new(prefix: &'a Path) -> io::Result<Self> {
        Ok(Self { prefix, owner: fs::symlink_metadata(prefix)?.uid() })
    }

    /// Copies a file, or a directory with its contents. Relative links in it stay links, and others are replaced by what they
    /// point to.
    fn copy(&self, source: &Path, target: &Path) -> io::Result<()> {
        // Do not wait for a pipe.
        let mut options = OpenOptions::new();
        let mut file = options.read(true).custom_flags(libc::O_NONBLOCK).open(source)?;
        let place = place(&file, source)?;
        self.holds(source, &place)?;
        for dir in place.ancestors().skip(1).take_while(|dir| dir.starts_with(self.prefix)) {
            self.must_be_open(dir, &fs::symlink_metadata(dir)?, 0o001)?;
        }
        let found = file.metadata()?;
        if found.is_dir() {
            self.must_be_open(source, &found, 0o005)?;
            return self.copy_entries(source, target);
        }
        if !found.is_file() {
            return Err(io::Error::other(format!("{} is not a file", source.display())));
        }
        self.must_be_open(source, &found, 0o004)?;
        io::copy(&mut file, &mut File::create_new(target)?)?;
        let mode = if found.mode() & 0o100 == 0 { 0o644 } else { 0o755 };
        fs::set_permissions(target, fs::Permissions::from_mode(mode))
    }

    fn copy_entries(&self, from: &Path, to: &Path) -> io::Result<()> {
        directory(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            if entry.file_type()?.is_symlink() {
                let link = fs::read_link(&source)?;
                if link.is_relative() {
                    match fs::canonicalize(&source) {
                        // The target does not exist: copied as it is.
                        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                        found => self.holds(&source, &found?)?,
                    }
                    symlink(link, &target)?;
                    continue;
                }
            }
            self.copy(&source, &target)?;
        }
        Ok(())
    }

    /// Returns an error unless the file belongs to the owner or has these rights for others.
    fn must_be_open(&self, name: &Path, found: &Metadata, rights: u32) -> io::Result<()> {
        if found.uid() == self.owner || found.mode() & rights == rights {
            return Ok(());
        }
        let message = format!("{} is of another owner and closed to others", name.display());
        Err(io::Error::other(message))
    }

    /// Returns an error unless this path, to which a name leads, is in the installation.
    fn holds(&self, name: &Path, place: &Path) -> io::Result<()> {
        if place.starts_with(self.prefix) {
            return Ok(());
        }
        let (name, prefix) = (name.display(), self.prefix.display());
        Err(io::Error::other(format!("{name} leads out of the installation in {prefix}")))
    }
}

/// Returns the path of an opened file. If there is a `/proc`, this does not depend on its name any more.
fn place(file: &File, name: &Path) -> io::Result<PathBuf> {
    let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::read_link(opened).or_else(|_| fs::canonicalize(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Scratch;

    #[test]
    fn a_cache_that_others_can_write_to_is_refused() {
        let scratch = Scratch::new(&User::caller(), None).unwrap();
        let cache_dir = scratch.data().join("pgbell-servers-0");
        fs::create_dir(&cache_dir).unwrap();
        fs::set_permissions(&cache_dir, fs::Permissions::from_mode(0o777)).unwrap();
        let error = cache(&scratch.data()).unwrap_err().to_string();
        assert!(error.contains("only root can write to"), "{error}");

        fs::remove_dir(&cache_dir).unwrap();
        symlink("/tmp", &cache_dir).unwrap();
        let error = cache(&scratch.data()).unwrap_err().to_string();
        assert!(error.contains("only root can write to"), "{error}");
    }

    #[test]
    fn a_copy_keeps_links_and_what_can_be_run() {
        let scratch = Scratch::new(&User::caller(), None).unwrap();
        let from = scratch.data().join("from");
        fs::create_dir_all(from.join("deep")).unwrap();
        fs::write(from.join("deep/file"), "text").unwrap();
        fs::set_permissions(from.join("deep/file"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(from.join("program"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(from.join("program"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("deep/file", from.join("relative")).unwrap();
        symlink(from.join("deep/file"), from.join("absolute")).unwrap();
        symlink("no such file", from.join("nowhere")).unwrap();

        let to = scratch.data().join("to");
        Original::new(&from).unwrap().copy(&from, &to).unwrap();
        let mode = |name: &str| fs::symlink_metadata(to.join(name)).unwrap().mode() & 0o777;
        assert_eq!(fs::read_to_string(to.join("deep/file")).unwrap(), "text");
        assert_eq!((mode("deep"), mode("deep/file"), mode("program")), (0o755, 0o644, 0o755));
        assert_eq!(fs::read_link(to.join("relative")).unwrap(), Path::new("deep/file"));
        assert!(fs::symlink_metadata(to.join("absolute")).unwrap().is_file());
        assert_eq!(fs::read_link(to.join("nowhere")).unwrap(), Path::new("no such file"));
    }

    /// Files that others must not read are not copied.
    #[test]
    fn a_closed_file_or_directory_of_another_owner_is_not_copied() {
        let user = User::detect().unwrap();
        if !user.is_other() {
            // A caller that cannot change the owner of a directory cannot make one of another owner.
            return;
        }
        for (what, mode, dir_mode) in [("file", 0o600, 0o755), ("directory", 0o644, 0o700)] {
            let own = Scratch::new(&User::caller(), None).unwrap();
            let to = own.data().join("to");
            let scratch = Scratch::new(&user, None).unwrap();
            let data = scratch.data();
            fs::create_dir(data.join("lib")).unwrap();
            fs::write(data.join("lib/secret"), "pl4nted").unwrap();
            for (path, mode) in [("lib/secret", mode), ("lib", dir_mode)] {
                fs::set_permissions(data.join(path), fs::Permissions::from_mode(mode)).unwrap();
            }
            let original = Original::new(&data).unwrap();
            let error = original.copy(&data, &to).unwrap_err().to_string();
            assert!(error.contains("of another owner"), "{what}: {error}");
            assert!(!to.join("lib/secret").exists(), "{what}");

            // A link leads past the closed directory.
            fs::create_dir(data.join("bin")).unwrap();
            symlink(data.join("lib/secret"), data.join("bin/x")).unwrap();
            let error = original.copy(&data.join("bin"), &own.data().join("link")).unwrap_err();
            assert!(error.to_string().contains("of another owner"), "{what}: {error}");
        }
    }

    /// The owner of the link may not be able to read its target: the directories above may be closed.
    #[test]
    fn a_link_that_leads_out_of_the_installation_is_refused() {
        let scratch = Scratch::new(&User::caller(), None).unwrap();
        let dir = scratch.data();
        fs::create_dir_all(dir.join("closed/open")).unwrap();
        fs::set_permissions(dir.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(dir.join("closed/open/secret"), "pl4nted").unwrap();
        let targets = [
            ("a directory", dir.join("closed/open")),
            ("a directory above", dir.join("closed")),
            ("a file", dir.join("closed/open/secret")),
            ("a relative link", PathBuf::from("../../closed/open")),
            ("a relative link to a file", PathBuf::from("../../closed/open/secret")),
        ];
        for (what, target) in targets {
            let prefix = dir.join("installation");
            fs::create_dir_all(prefix.join("lib")).unwrap();
            symlink(target, prefix.join("lib/x")).unwrap();
            let to = dir.join("to");
            let error = Original::new(&prefix).unwrap().copy(&prefix, &to).unwrap_err().to_string();
            assert!(error.contains("lib/x leads out of the installation"), "{what}: {error}");
            assert!(fs::symlink_metadata(to.join("lib/x")).is_err(), "{what}");
            fs::remove_dir_all(&prefix).unwrap();
            fs::remove_dir_all(&to).unwrap();
        }

        // A part of it may be a link too.
        let prefix = dir.join("installation");
        fs::create_dir(&prefix).unwrap();
        symlink(dir.join("closed/open"), prefix.join("lib")).unwrap();
        let original = Original::new(&prefix).unwrap();
        let error = original.copy(&prefix.join("lib"), &dir.join("to")).unwrap_err().to_string();
        assert!(error.contains("lib leads out of the installation"), "{error}");
        assert!(!dir.join("to").exists());
    }
}
