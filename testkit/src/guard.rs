//! A cluster's directories and the processes that clear them away when nobody else can.
//!
//! The outer directory, the home, is the caller's: what the caller writes by name is there, and nobody else can put
//! anything else in its place. In it are two directories of mode 0700 that belong to the server's user: `data`, and `run`
//! for sockets and the number of the process.
//!
//! Two small shells read from pipes that only the test's process can write to. However that process ends, the pipes end
//! too. Then the one that runs as the server's user stops what runs in the directories and empties them, and the one that
//! runs as the caller removes the rest, by names of its own. They have process groups of their own, so that a signal to
//! the test's group (Ctrl-C, a test runner's timeout) does not reach them.

use std::env;
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::files::open_directory;
use crate::user::User;

/// Longest path of a Unix socket in bytes, the NUL not counted: `sun_path` is 108 bytes on Linux, 104 on BSD.
const SOCKET_PATH_BYTES_MAX: usize = 103;

/// Length of the longest name of a socket, with the slash before it.
const SOCKET_NAME_BYTES: usize = "/.s.PGSQL.65535".len();

/// How long [`Scratch::clear`] waits for the guard's own end.
const GUARD_END_MAX: Duration = Duration::from_secs(10);

/// As the server's user. `$1` is the home, `$2` the directory `run`. `pid` in that names the process that was started last.
///
/// It enters the home while nobody else can have its name, and reaches what is in there without that name: when the home is
/// gone, somebody else may put a link in its place.
const EMPTY: &str = r#"
home=$1
run=$2
cd -- "$home" || exit 0
# Whether process $1 is still what was started here: its number may belong to another process by now. In the middle of an
# exec a process has no arguments yet, and one that has ended has none any more.
ours() {
    kill -0 "$1" || return 1
    [ -r "/proc/$1/cmdline" ] || return 0
    arguments=$(tr '\0' ' ' <"/proc/$1/cmdline")
    if [ -z "$arguments" ]; then
        [ "$tick" -lt 5 ]
    else
        printf '%s\n' "$arguments" | grep -qF -e "$home" -e "$run"
    fi
}
inner=$run
[ "$run" != "$home/run" ] || inner=run
read -r end
tick=0
while [ "$tick" -lt 200 ]; do
    pid=
    [ ! -s "$inner/pid" ] || read -r pid <"$inner/pid"
    if [ -n "$pid" ] && ours "$pid"; then
        case $tick in
            0 | 50) kill -s QUIT "$pid" ;;
            100) kill -s KILL "$pid" ;;
        esac
    else
        # The two themselves are removed by whoever owns the home.
        rm -rf -- data "$inner"
        [ -n "$(ls -A -- data 2>/dev/null; ls -A -- "$inner" 2>/dev/null)" ] || exit 0
    fi
    tick=$((tick + 1))
    sleep 0.1
done
exit 1
"#;

/// As the caller. `$1` is where the home is, the rest names of files in it. It is there before the home, whose name is the
/// first line of its input; the second is that of the home of `run` in `/tmp`, if that is another one.
const REMOVE: &str = r#"
parent=$1
shift
read -r name || exit 0
home=$parent/$name
other=$home
if read -r name && [ -n "$name" ]; then
    other=/tmp/$name
fi
# It stays in there, and reaches the files without the name of the home.
cd -- "$home" || exit 0
read -r end
tick=0
while [ "$tick" -lt 250 ]; do
    # Not before they are empty.
    rmdir -- data run "$other/run"
    if ! [ -e data ] && ! [ -e run ] && ! [ -e "$other/run" ]; then
        rm -f -- "$@"
        [ "$other" = "$home" ] || rmdir -- "$other"
        # The names are free from here on, and nothing is done by them any more.
        rmdir -- "$home" && exit 0
    fi
    tick=$((tick + 1))
    sleep 0.1
done
exit 1
"#;

/// Files of the caller's in the home.
const LOG: &str = "log";
const INIT_SQL: &str = "init.sql";
const OPENSSL: &str = "openssl.cnf";

/// `$0` is the directory, the rest the program and its arguments. The number is there before the program is.
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

/// The shells that clear away.
#[derive(Debug)]
struct Guards(Vec<Child>);

impl Guards {
    fn set(&mut self, mut command: Command) -> Result<(), Error> {
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let guard = command.spawn().map_err(|cause| Error::io("cannot run /bin/sh", cause))?;
        self.0.push(guard);
        Ok(())
    }

    /// Tells the first of them the name of a directory that was just made.
    fn tell(&mut self, dir: &Path) -> Result<(), Error> {
        let Some(input) = self.0.first_mut().and_then(|guard| guard.stdin.as_mut()) else {
            return Ok(());
        };
        let name = dir.file_name().unwrap_or_default();
        input
            .write_all(&[name.as_encoded_bytes(), b"\n"].concat())
            .map_err(|cause| Error::io("cannot write to the guard", cause))
    }

    /// The end of their input is the order to clear away what is left.
    fn order(&mut self) {
        self.0.iter_mut().for_each(|guard| drop(guard.stdin.take()));
    }
}

impl Drop for Guards {
    fn drop(&mut self) {
        self.order();
        for guard in &mut self.0 {
            if wait(guard, GUARD_END_MAX).is_none() {
                let _ = guard.kill();
                let _ = guard.wait();
            }
        }
    }
}

impl Scratch {
    /// Makes the directories in `parent`, or where temporary files go, and sets the guards on them.
    pub(crate) fn new(user: &User, parent: Option<&Path>) -> Result<Self, Error> {
        let parent = match parent {
            Some(parent) => {
                let parent =
                    fs::canonicalize(parent).map_err(Error::on("find the directory", parent))?;
                if !user.can_enter(&parent) {
                    return Err(Error::new(format!(
                        "the server's user ({}) cannot enter {}",
                        user.name(),
                        parent.display()
                    )));
                }
                if !is_safe(user, &parent) {
                    return Err(Error::new(format!(
                        "another user can exchange what root makes in {}: it and all above it must be root's, and \
                         not open to others, or sticky as /tmp is",
                        parent.display()
                    )));
                }
                parent
            }
            None => shared_parent(user)?,
        };
        let mut guards = Guards(Vec::new());
        let mut remove = User::caller().command("/bin/sh");
        remove.args(["-c", REMOVE, "pgbell-guard"]).arg(&parent).args([LOG, INIT_SQL, OPENSSL]);
        guards.set(remove)?;
        let home = make_home(user, &parent)?;
        guards.tell(&home)?;
        let mut scratch = Self { user: user.clone(), run_home: home.clone(), home, guards };
        if fit_for_sockets(&scratch.socket_dir()) {
            scratch.guards.tell(Path::new(""))?;
        } else {
            scratch.run_home = make_home(user, Path::new("/tmp"))?;
            scratch.guards.tell(&scratch.run_home)?;
        }
        make_inner(user, &scratch.data())?;
        make_inner(user, &scratch.socket_dir())?;
        let mut empty = user.command("/bin/sh");
        empty.args(["-c", EMPTY, "pgbell-guard"]).arg(&scratch.home).arg(scratch.socket_dir());
        scratch.guards.set(empty)?;
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

    /// Where what the programs say goes.
    pub(crate) fn log(&self) -> PathBuf {
        self.home.join(LOG)
    }

    /// The SQL that a server carries out before it starts.
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

    /// Empties the data directory: everything in it is removed, and it is made anew.
    pub(crate) fn empty_data(&self) -> Result<(), Error> {
        let data = self.data();
        fs::remove_dir_all(&data).map_err(Error::on("remove", &data))?;
        make_inner(&self.user, &data)
    }

    /// A command as the server's user whose process number the guard knows. One at a time.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = self.user.command("/bin/sh");
        command.args(["-c", RECORDED]).arg(self.socket_dir()).arg(program);
        command
    }

    /// To be called when what [`Scratch::command`] started has ended.
    pub(crate) fn forget_process(&self) {
        // Not there when the program did not even start: nothing to forget. A link is removed, not followed.
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
        // Processes of a server that was killed may write for another moment: try again, not forever. No link is
        // followed, whoever exchanges what while it is removed.
        for _ in 0..100 {
            let gone = [self.data(), self.socket_dir()].iter().all(|dir| {
                matches!(fs::remove_dir_all(dir), Err(cause) if cause.kind() == io::ErrorKind::NotFound)
            });
            if gone {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        // The rest is the guards': the names of the homes are not free before these have ended.
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Waits for the end of a process, not longer than given.
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
    let fit = |dir: &PathBuf| user.can_enter(dir) && is_safe(user, dir);
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

/// Whether what root makes in the directory, which is named without a link, stays where it is. Whoever is not root has no
/// other user's server in it.
fn is_safe(user: &User, dir: &Path) -> bool {
    !user.is_other()
        || dir.ancestors().all(|dir| {
            fs::symlink_metadata(dir).is_ok_and(|found| {
                found.uid() == 0 && (found.mode() & 0o022 == 0 || found.mode() & 0o1000 != 0)
            })
        })
}

/// Makes an outer directory. The server's user gets through it, and nobody but the caller writes to it.
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
            // Left by an earlier process of the same number, or somebody's trap: never used.
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            Err(cause) => return Err(Error::on("create", &dir)(cause)),
        }
    }
}

/// Makes a directory of the server's user in the home.
fn make_inner(user: &User, dir: &Path) -> Result<(), Error> {
    DirBuilder::new().mode(0o700).create(dir).map_err(Error::on("create", dir))?;
    user.give(dir)
}

/// Whether a socket in the directory has a path that the system and `unix_socket_directories` can take.
fn fit_for_sockets(dir: &Path) -> bool {
    let bytes = dir.as_os_str().as_encoded_bytes();
    bytes.len() + SOCKET_NAME_BYTES <= SOCKET_PATH_BYTES_MAX
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(byte))
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn the_guards_remove_both_directories_when_their_input_ends() {
        let user = User::detect().unwrap();
        let parent = Scratch::new(&User::caller(), None).unwrap();
        let open = fs::Permissions::from_mode(0o711);
        fs::set_permissions(parent.home(), open.clone()).unwrap();
        let long = parent.home().join("d".repeat(SOCKET_PATH_BYTES_MAX));
        fs::create_dir(&long).unwrap();
        fs::set_permissions(&long, open).unwrap();
        let mut scratch = Scratch::new(&user, Some(&long)).unwrap();
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

    #[test]
    fn a_process_in_the_directory_ends_with_the_guard() {
        let user = User::detect().unwrap();
        let mut scratch = Scratch::new(&user, None).unwrap();
        // The directory is among its arguments, as it is among the server's. It waits for input.
        let mut waiter = scratch.command(Path::new("/bin/sh"));
        waiter.args(["-c", "read -r line", "sh"]).arg(scratch.home()).stdin(Stdio::piped());
        let mut waiter = waiter.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let pid = scratch.socket_dir().join("pid");
        while fs::read_to_string(&pid).unwrap_or_default().is_empty() {
            assert!(Instant::now() < deadline, "the process never recorded its number");
            thread::yield_now();
        }
        scratch.guards.order();
        assert!(!wait(&mut waiter, Duration::from_secs(30)).unwrap().success());
        end(&mut scratch);
    }

    /// The server's user owns the directory of its files, and what it puts there leads root nowhere else.
    #[test]
    fn links_in_place_of_the_servers_files_lead_nowhere() {
        let user = User::detect().unwrap();
        let victim = Scratch::new(&User::caller(), None).unwrap();
        let (kept, secret) = (victim.home().join("kept"), victim.home().join("secret"));
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
