//! A cluster's directory and the process that clears it away when nobody else can.
//!
//! The guard is a small shell that runs as the server's user and reads from a pipe that only the test's
//! process can write to. However that process ends, the pipe ends too: the guard then stops what runs in the
//! directory and removes it. It has a process group of its own, so that a signal to the test's group (Ctrl-C,
//! a test runner's timeout) does not reach it.

use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::user::User;

/// Longest path of a Unix socket in bytes, the NUL not counted: `sun_path` is 108 bytes on Linux, 104 on BSD.
const SOCKET_PATH_BYTES_MAX: usize = 103;

/// Length of the longest name of a socket, with the slash before it.
const SOCKET_NAME_BYTES: usize = "/.s.PGSQL.65535".len();

/// How long [`Scratch::clear`] waits for the guard's own end.
const GUARD_END_MAX: Duration = Duration::from_secs(10);

/// `$1` is the directory, `$2` the one of the socket. `pid` in it names the process that was started last.
const GUARD: &str = r#"
dir=$1
socket=$2
# Whether process $1 is still what was started here: its number may belong to somebody else by now.
ours() {
    kill -0 "$1" || return 1
    [ ! -r "/proc/$1/cmdline" ] || tr '\0' ' ' <"/proc/$1/cmdline" | grep -qF -- "$dir"
}
read -r end
tick=0
while [ "$tick" -lt 200 ]; do
    pid=
    [ ! -s "$dir/pid" ] || read -r pid <"$dir/pid"
    if [ -n "$pid" ] && ours "$pid"; then
        case $tick in
            0 | 50) kill -s QUIT "$pid" ;;
            100) kill -s KILL "$pid" ;;
        esac
    else
        rm -rf -- "$dir" "$socket"
        [ -e "$dir" ] || [ -e "$socket" ] || exit 0
    fi
    tick=$((tick + 1))
    sleep 0.1
done
exit 1
"#;

/// `$0` is the directory, the rest the program and its arguments. The number is there before the program is.
const RECORDED: &str = r#"echo $$ >"$0/pid" || exit 1; exec "$@""#;

/// A directory of mode 0700 that belongs to the server's user, under guard.
#[derive(Debug)]
pub(crate) struct Scratch {
    user: User,
    dir: PathBuf,
    socket_dir: PathBuf,
    guard: Option<Child>,
}

impl Scratch {
    /// Makes the directory in `parent`, or where temporary files go, and sets the guard on it.
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
                parent
            }
            None => shared_parent(user)?,
        };
        let dir = make(user, &parent)?;
        let mut scratch = Self { user: user.clone(), socket_dir: dir.clone(), dir, guard: None };
        if !fit_for_sockets(&scratch.dir) {
            scratch.socket_dir = make(user, Path::new("/tmp"))?;
        }
        let mut guard = user.command("/bin/sh");
        guard.args(["-c", GUARD, "pgbell-guard"]).arg(&scratch.dir).arg(&scratch.socket_dir);
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let guard = guard.spawn().map_err(|cause| {
            Error::io(format!("cannot run /bin/sh as {}", scratch.user.name()), cause)
        })?;
        scratch.guard = Some(guard);
        Ok(scratch)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    pub(crate) fn user(&self) -> &User {
        &self.user
    }

    /// A command as the server's user whose process number the guard knows. One at a time.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = self.user.command("/bin/sh");
        command.args(["-c", RECORDED]).arg(&self.dir).arg(program);
        command
    }

    /// To be called when what [`Scratch::command`] started has ended.
    pub(crate) fn forget_process(&self) {
        // Not there when the program did not even start: nothing to forget.
        let _ = fs::remove_file(self.dir.join("pid"));
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
        // Processes of a server that was killed may write for another moment: try again, not forever.
        for _ in 0..100 {
            let gone = [&self.dir, &self.socket_dir].into_iter().all(|dir| {
                matches!(fs::remove_dir_all(dir), Err(cause) if cause.kind() == io::ErrorKind::NotFound)
            });
            if gone {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        if let Some(mut guard) = self.guard.take() {
            // The end of its input is the order to clear away what is left.
            drop(guard.stdin.take());
            if wait(&mut guard, GUARD_END_MAX).is_none() {
                let _ = guard.kill();
                let _ = guard.wait();
            }
        }
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
    let own = fs::canonicalize(env::temp_dir()).ok().filter(|dir| user.can_enter(dir));
    let shared = || Some(PathBuf::from("/tmp")).filter(|dir| user.can_enter(dir));
    own.or_else(shared).ok_or_else(|| {
        let dir = env::temp_dir();
        Error::new(format!(
            "the server's user ({}) can enter neither {} nor /tmp: set TMPDIR",
            user.name(),
            dir.display()
        ))
    })
}

fn make(user: &User, parent: &Path) -> Result<PathBuf, Error> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("pgbell-{}-{number}", process::id()));
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => {
                if let Err(error) = user.give(&dir) {
                    let _ = fs::remove_dir(&dir);
                    return Err(error);
                }
                return Ok(dir);
            }
            // Left by an earlier process of the same number, or somebody's trap: never used.
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            Err(cause) => return Err(Error::on("create", &dir)(cause)),
        }
    }
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

    #[test]
    fn the_guard_removes_both_directories_when_its_input_ends() {
        let user = User::detect().unwrap();
        let parent = Scratch::new(&user, None).unwrap();
        let long = parent.dir().join("d".repeat(SOCKET_PATH_BYTES_MAX));
        fs::create_dir(&long).unwrap();
        user.give(&long).unwrap();
        let mut scratch = Scratch::new(&user, Some(&long)).unwrap();
        assert_ne!(scratch.dir, scratch.socket_dir);
        let mut guard = scratch.guard.take().unwrap();
        drop(guard.stdin.take());
        assert!(wait(&mut guard, Duration::from_secs(30)).unwrap().success());
        assert!(!scratch.dir.exists());
        assert!(!scratch.socket_dir.exists());
    }

    #[test]
    fn a_process_in_the_directory_ends_with_the_guard() {
        let user = User::detect().unwrap();
        let mut scratch = Scratch::new(&user, None).unwrap();
        // The directory is among its arguments, as it is among the server's. It waits for input.
        let mut waiter = scratch.command(Path::new("/bin/sh"));
        waiter.args(["-c", "read -r line", "sh"]).arg(scratch.dir()).stdin(Stdio::piped());
        let mut waiter = waiter.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while fs::read_to_string(scratch.dir().join("pid")).unwrap_or_default().is_empty() {
            assert!(Instant::now() < deadline, "the process never recorded its number");
            thread::yield_now();
        }
        drop(scratch.guard.as_mut().unwrap().stdin.take());
        assert!(!wait(&mut waiter, Duration::from_secs(30)).unwrap().success());
        let mut guard = scratch.guard.take().unwrap();
        assert!(wait(&mut guard, Duration::from_secs(30)).unwrap().success());
        assert!(!scratch.dir.exists());
    }
}
