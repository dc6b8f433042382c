//! A cluster's directories, and the processes that remove them when the test's process cannot.
//!
//! The outer directory, the home, belongs to the caller. Files that the caller writes by name are there, and no other user
//! can replace them. In it are two directories of mode 0700 that belong to the server's user: `data`, and `run`
//! for sockets and the process id.
//!
//! Small shells, the guards, read from pipes that only the test's process can write to. When that process ends in any way,
//! the pipes end too. Then the guards that run as the server's user stop the processes in the directories and empty them, and
//! those that run as the caller remove the rest. The guards have process groups of their own, so that a signal to the test's
//! group (Ctrl-C, a test runner's timeout) does not reach them.

mod shells;

use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::files::open_directory;
use crate::user::User;
use shells::Guards;

/// The longest path of a Unix socket in bytes, the NUL not counted: `sun_path` is 108 bytes on Linux, 104 on BSD.
const SOCKET_PATH_BYTES_MAX: usize = 103;

/// Length of the longest name of a socket, with the slash before it.
const SOCKET_NAME_BYTES: usize = "/.s.PGSQL.65535".len();

/// Files of the caller in the home.
const LOG: &str = "log";
const INIT_SQL: &str = "init.sql";
const OPENSSL: &str = "openssl.cnf";

/// `$0` is the directory, the rest is the program and its arguments. The process id is written before the program starts.
const RECORDED: &str = r#"rm -f -- "$0/pid" && echo $$ >"$0/pid" || exit 1; exec "$@""#;

/// The directories of a server, under guard.
#[derive(Debug)]
pub(crate) struct Scratch {
    user: User,
    home: PathBuf,
    /// Where `run` is: the home, or one whose path is short enough for sockets.
    run_home: PathBuf,
    guards: Guards,
}

impl Scratch {
    /// Makes the directories in `parent`, or in the directory for temporary files, and starts their guards.
    pub(crate) fn new(user: &User, parent: Option<&Path>) -> Result<Self, Error> {
        let parent = match parent {
            Some(parent) => checked_parent(user, parent)?,
            None => shared_parent(user)?,
        };
        let mut guards = Guards::default();
        let home = guards.make_home(user, &parent)?;
        let mut scratch = Self { user: user.clone(), run_home: home.clone(), home, guards };
        if !fit_for_sockets(&scratch.socket_dir()) {
            let short = checked_parent(user, Path::new("/tmp"))?;
            scratch.run_home = scratch.guards.make_home(user, &short)?;
        }
        make_inner(user, &scratch.data())?;
        make_inner(user, &scratch.socket_dir())?;
        scratch.guards.empty(user, &scratch.home, &scratch.run_home)?;
        Ok(scratch)
    }

    /// The outer directory, where only the caller writes.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// The data directory, of the server's user.
    pub(crate) fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// The directory of sockets, and of other files of a program, of the server's user.
    pub(crate) fn socket_dir(&self) -> PathBuf {
        self.run_home.join("run")
    }

    /// The file for the output of the programs.
    pub(crate) fn log(&self) -> PathBuf {
        self.home.join(LOG)
    }

    /// The SQL that a server executes before it starts.
    pub(crate) fn init_sql(&self) -> PathBuf {
        self.home.join(INIT_SQL)
    }

    /// The configuration of OpenSSL.
    pub(crate) fn openssl(&self) -> PathBuf {
        self.home.join(OPENSSL)
    }

    pub(crate) fn user(&self) -> &User {
        &self.user
    }

    /// Removes the data directory with its contents, and makes it again.
    pub(crate) fn empty_data(&self) -> Result<(), Error> {
        let data = self.data();
        fs::remove_dir_all(&data).map_err(Error::on("remove", &data))?;
        make_inner(&self.user, &data)
    }

    /// Returns a command that runs as the server's user and records its process id for the guard. One at a time.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = self.user.command("/bin/sh");
        command.args(["-c", RECORDED]).arg(self.socket_dir()).arg(program);
        command
    }

    /// Removes the recorded process id. To be called when the process of [`Scratch::command`] has ended.
    pub(crate) fn forget_process(&self) {
        // The file does not exist if the program did not start. A link is removed, not followed.
        let _ = fs::remove_file(self.socket_dir().join("pid"));
    }

    /// Runs a program to its end. Its standard error is the error's text.
    pub(crate) fn run(&self, what: &str, command: &mut Command) -> Result<(), Error> {
        let output = command.output();
        self.forget_process();
        let output = output.map_err(|cause| Error::io(format!("cannot run {what}"), cause))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Error::new(format!("{what} failed ({}): {}", output.status, said.trim())))
    }

    fn clear(&mut self) {
        self.forget_process();
        // Processes of a server that was killed may write for another moment, so try again, with a limit. No link is
        // followed, even if a directory is exchanged during the removal.
        let is_gone = |dir: &PathBuf| match fs::remove_dir_all(dir) {
            Ok(()) => true,
            Err(cause) => cause.kind() == io::ErrorKind::NotFound,
        };
        let mut left = vec![self.data(), self.socket_dir()];
        for _ in 0..100 {
            left.retain(|dir| !is_gone(dir));
            if left.is_empty() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        // The guards remove the rest, the outer directories too. No other directory can get their names before that.
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Waits for the end of a process, at most for the given time.
pub(crate) fn wait(child: &mut Child, longest: Duration) -> Option<process::ExitStatus> {
    let deadline = Instant::now() + longest;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            _ => return None,
        }
    }
}

/// A directory for temporary files that the server's user can enter: `TMPDIR`, else `/tmp`.
pub(crate) fn shared_parent(user: &User) -> Result<PathBuf, Error> {
    let fit = |dir: &PathBuf| user.can_enter(dir) && is_safe(dir);
    let own = fs::canonicalize(env::temp_dir()).ok().filter(fit);
    let shared = || fs::canonicalize("/tmp").ok().filter(fit);
    own.or_else(shared).ok_or_else(|| {
        let dir = env::temp_dir();
        Error::new(format!(
            "neither {} nor /tmp can be entered by the server's user ({}) and is safe from other users: set TMPDIR",
            dir.display(),
            user.name(),
        ))
    })
}

/// Returns the directory without links, if the server's user can enter it and no other user can exchange what is made there.
fn checked_parent(user: &User, dir: &Path) -> Result<PathBuf, Error> {
    let dir = fs::canonicalize(dir).map_err(Error::on("find the directory", dir))?;
    if !user.can_enter(&dir) {
        let (user, dir) = (user.name(), dir.display());
        return Err(Error::new(format!("the server's user ({user}) cannot enter {dir}")));
    }
    if !is_safe(&dir) {
        return Err(Error::new(format!(
            "another user can exchange what root makes in {}: it and all above it must be root's, and not open to \
             others, or sticky as /tmp is",
            dir.display()
        )));
    }
    Ok(dir)
}

/// Returns whether no other user can exchange what root makes in the directory. The path must have no link. Callers other than
/// root may use any directory.
pub(crate) fn is_safe(dir: &Path) -> bool {
    !User::caller_is_root()
        || dir.ancestors().all(|dir| {
            fs::symlink_metadata(dir).is_ok_and(|found| {
                found.uid() == 0 && (found.mode() & 0o022 == 0 || found.mode() & 0o1000 != 0)
            })
        })
}

/// Makes an outer directory. The server's user can pass through it, and only the caller can write to it.
fn make_home(user: &User, parent: &Path) -> Result<PathBuf, Error> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("pgbell-{}-{number}", process::id()));
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) if !user.is_other() => return Ok(dir),
            Ok(()) => {
                let opened = open_directory(&dir)
                    .and_then(|opened| opened.set_permissions(fs::Permissions::from_mode(0o711)));
                if let Err(cause) = opened {
                    let _ = fs::remove_dir(&dir);
                    return Err(Error::on("open to others", &dir)(cause));
                }
                return Ok(dir);
            }
            // Left by an earlier process with the same id, or made by another user as a trap: never used.
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            Err(cause) => return Err(Error::on("create", &dir)(cause)),
        }
    }
}

/// Makes a directory in the home that belongs to the server's user.
fn make_inner(user: &User, dir: &Path) -> Result<(), Error> {
    DirBuilder::new().mode(0o700).create(dir).map_err(Error::on("create", dir))?;
    user.give(dir)
}

/// Returns whether the path of a socket in the directory is valid for the system and for `unix_socket_directories`.
fn fit_for_sockets(dir: &Path) -> bool {
    let bytes = dir.as_os_str().as_encoded_bytes();
    bytes.len() + SOCKET_NAME_BYTES <= SOCKET_PATH_BYTES_MAX
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(byte))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn long_and_odd_directories_get_their_sockets_elsewhere() {
        assert!(fit_for_sockets(Path::new("/tmp/pgbell-1-0")));
        assert!(fit_for_sockets(Path::new(&format!("/{}", "d".repeat(87)))));
        assert!(!fit_for_sockets(Path::new(&format!("/{}", "d".repeat(88)))));
        assert!(!fit_for_sockets(Path::new("/tmp/a,b")));
        assert!(!fit_for_sockets(Path::new("/tmp/a b")));
    }

    /// Ends the input of both guards and waits for their ends.
    fn end(scratch: &mut Scratch) {
        scratch.guards.order();
        for mut guard in scratch.guards.0.drain(..) {
            assert!(wait(&mut guard, Duration::from_secs(30)).unwrap().success());
        }
        assert!(!scratch.home.exists() && !scratch.run_home.exists());
    }

    /// A directory with a path that is too long for sockets.
    fn long(parent: &Scratch) -> PathBuf {
        let long = parent.data().join("d".repeat(SOCKET_PATH_BYTES_MAX));
        fs::create_dir(&long).unwrap();
        for dir in [parent.home(), &parent.data(), &long] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).unwrap();
        }
        long
    }

    #[test]
    fn the_guards_remove_both_directories_when_their_input_ends() {
        let user = User::detect().unwrap();
        let parent = Scratch::new(&User::caller(), None).unwrap();
        let mut scratch = Scratch::new(&user, Some(&long(&parent))).unwrap();
        assert_ne!(scratch.home, scratch.run_home);
        for (name, dir) in
            [("a", scratch.data()), ("-b c", scratch.data()), ("d", scratch.socket_dir())]
        {
            fs::write(dir.join(name), "x").unwrap();
        }
        for path in [scratch.log(), scratch.init_sql(), scratch.openssl()] {
            fs::write(path, "x").unwrap();
        }
        end(&mut scratch);
    }

    /// Waits until the process id of the started process is recorded.
    fn recorded(scratch: &Scratch) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let pid = scratch.socket_dir().join("pid");
        while fs::read_to_string(&pid).unwrap_or_default().is_empty() {
            assert!(Instant::now() < deadline, "the process never recorded its number");
            thread::yield_now();
        }
    }

    #[test]
    fn a_process_in_the_directory_ends_with_the_guard() {
        let user = User::detect().unwrap();
        let mut scratch = Scratch::new(&user, None).unwrap();
        // The directory is among its arguments, as it is among the server's. It waits for input.
        let mut waiter = scratch.command(Path::new("/bin/sh"));
        waiter.args(["-c", "read -r line", "sh"]).arg(scratch.home()).stdin(Stdio::piped());
        let mut waiter = waiter.spawn().unwrap();
        recorded(&scratch);
        scratch.guards.order();
        assert!(!wait(&mut waiter, Duration::from_secs(30)).unwrap().success());
        end(&mut scratch);
    }

    /// The process that is recorded in one of the two directories writes in the other one until it ends.
    #[test]
    fn a_process_ends_before_the_data_directory_of_a_long_path_is_removed() {
        let user = User::detect().unwrap();
        let parent = Scratch::new(&User::caller(), None).unwrap();
        let mut scratch = Scratch::new(&user, Some(&long(&parent))).unwrap();
        let kept = scratch.data().join("kept");
        fs::write(&kept, "x").unwrap();
        let mut waiter = scratch.command(Path::new("/bin/sh"));
        waiter.args(["-c", WAITER, "sh"]).arg(&kept).arg(scratch.home());
        let mut waiter = waiter.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !scratch.data().join("ready").exists() {
            assert!(Instant::now() < deadline, "the process is never ready");
            thread::yield_now();
        }
        scratch.guards.order();
        assert_eq!(wait(&mut waiter, Duration::from_secs(30)).unwrap().code(), Some(7));
        end(&mut scratch);
    }

    /// Ends one second after SIGQUIT: with 7 if the file `$1` still exists, else with 8. `$2` is the outer directory.
    const WAITER: &str = r#"
trap 'sleep 1; [ -e "$1" ] && exit 7; exit 8' QUIT
: >"$2/data/ready"
while :; do sleep 0.05; done
"#;

    /// Another user has removed the outer directories, and has put links in their place.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_link_in_the_place_of_an_outer_directory_leads_the_guards_nowhere() {
        let user = User::detect().unwrap();
        let parent = Scratch::new(&User::caller(), None).unwrap();
        let long = long(&parent);
        for dir in [None, Some(&*long)] {
            // The link targets belong to the server's user too, so that both kinds of guards could do damage.
            let victim = Scratch::new(&user, None).unwrap();
            let kept = [victim.data().join("x"), victim.socket_dir().join("x"), victim.log()];
            kept.iter().for_each(|path| fs::write(path, "x").unwrap());

            let mut scratch = Scratch::new(&user, dir).unwrap();
            let homes = [scratch.home.clone(), scratch.run_home.clone()];
            let deadline = Instant::now() + Duration::from_secs(30);
            for guard in &scratch.guards.0 {
                let cwd = format!("/proc/{}/cwd", guard.id());
                while !fs::read_link(&cwd).is_ok_and(|cwd| homes.contains(&cwd)) {
                    assert!(Instant::now() < deadline, "a guard does not work in its directory");
                    thread::yield_now();
                }
            }
            for home in &homes {
                let _ = fs::remove_dir_all(home);
                let _ = symlink(&victim.home, home);
            }
            scratch.guards.order();
            for mut guard in scratch.guards.0.drain(..) {
                assert!(wait(&mut guard, Duration::from_secs(30)).unwrap().success());
            }
            assert!(kept.iter().all(|path| path.exists()));
            for home in &homes {
                let _ = fs::remove_file(home);
            }
        }
    }

    /// The server's user owns the directory of its files, and links that it puts there do not lead root elsewhere.
    #[test]
    fn links_in_place_of_the_servers_files_lead_nowhere() {
        let user = User::detect().unwrap();
        let victim = Scratch::new(&User::caller(), None).unwrap();
        let (kept, secret) = (victim.data().join("kept"), victim.data().join("secret"));
        fs::create_dir(&kept).unwrap();
        fs::write(&secret, "pl4nted").unwrap();
        let scratch = Scratch::new(&user, None).unwrap();
        let plant = |target: &Path, link: PathBuf| {
            let mut ln = user.command("ln");
            assert!(ln.args(["-s", "--"]).arg(target).arg(link).status().unwrap().success());
        };
        plant(&kept, scratch.data().join("directory"));
        plant(&secret, scratch.data().join("file"));
        plant(&secret, scratch.socket_dir().join("pid"));
        scratch.forget_process();
        plant(&secret, scratch.socket_dir().join("pid"));
        scratch.empty_data().unwrap();
        plant(&kept, scratch.data().join("directory"));
        drop(scratch);
        assert!(kept.is_dir());
        assert_eq!(fs::read_to_string(&secret).unwrap(), "pl4nted");
    }
}
