//! The shells that remove files when the test's process cannot.
//!
//! There are two for each outer directory. Each of them works in that directory, and names its files relative to it. So a
//! directory that has the same name later is not touched. No other directory can get the name before the shell that removes
//! the outer directory has done so, which is its last step.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{INIT_SQL, LOG, OPENSSL, make_home, wait};
use crate::error::Error;
use crate::user::User;

/// The longest time that the drop of [`Guards`] waits for the end of each guard.
const GUARD_END_MAX: Duration = Duration::from_secs(10);

/// Runs as the server's user, in the outer directory. `$1` and `$2` are texts, one of which is among the arguments of the
/// server's processes: the names of the outer directories. `run/pid` names the process that was started last.
const EMPTY: &str = r#"
home=$1
run_home=$2
# Whether process $1 is still what was started here: its number may belong to another process by now. In the middle of an
# exec a process has no arguments yet, and one that has ended has none any more.
ours() {
    kill -0 "$1" || return 1
    [ -r "/proc/$1/cmdline" ] || return 0
    arguments=$(tr '\0' ' ' <"/proc/$1/cmdline")
    if [ -z "$arguments" ]; then
        [ "$tick" -lt 5 ]
    else
        printf '%s\n' "$arguments" | grep -qF -e "$home" -e "$run_home"
    fi
}
read -r end
tick=0
while [ "$tick" -lt 200 ]; do
    pid=
    [ ! -s run/pid ] || read -r pid <run/pid
    if [ -n "$pid" ] && ours "$pid"; then
        case $tick in
            0 | 50) kill -s QUIT "$pid" ;;
            100) kill -s KILL "$pid" ;;
        esac
    else
        # The two themselves are removed by whoever owns the outer directory.
        rm -rf -- data run
        [ -n "$(ls -A -- data 2>/dev/null; ls -A -- run 2>/dev/null)" ] || exit 0
    fi
    tick=$((tick + 1))
    sleep 0.1
done
exit 1
"#;

/// Runs as the caller. `$1` is the parent of the outer directory, the rest are names of files in it. It starts before the
/// directory is made, and reads the directory's name from the first line of its input.
const REMOVE: &str = r#"
parent=$1
shift
read -r name || exit 0
home=$parent/$name
cd -- "$home" || exit 0
read -r end
tick=0
while [ "$tick" -lt 250 ]; do
    # Not before they are empty.
    rmdir -- data run
    if ! [ -e data ] && ! [ -e run ]; then
        rm -f -- "$@"
        # Unless it was removed by hand, and something else has its name.
        [ . -ef "$home" ] || exit 0
        rmdir -- "$home" && exit 0
    fi
    tick=$((tick + 1))
    sleep 0.1
done
exit 1
"#;

/// The shells, which wait for the end of their input.
#[derive(Debug, Default)]
pub(super) struct Guards(pub(super) Vec<Child>);

impl Guards {
    fn set(&mut self, mut command: Command) -> Result<(), Error> {
        command.stdin(Stdio::piped()).stderr(Stdio::null());
        let guard = command.spawn().map_err(|cause| Error::io("cannot run /bin/sh", cause))?;
        self.0.push(guard);
        Ok(())
    }

    /// Makes an outer directory, and starts the guard that removes it.
    pub(super) fn make_home(&mut self, user: &User, parent: &Path) -> Result<PathBuf, Error> {
        let mut remove = User::caller().command("/bin/sh");
        remove.args(["-c", REMOVE, "pgbell-guard"]).arg(parent).args([LOG, INIT_SQL, OPENSSL]);
        remove.stdout(Stdio::null());
        self.set(remove)?;
        let home = make_home(user, parent)?;
        self.send_name(&home)?;
        Ok(home)
    }

    /// Writes the name of a new directory to the last guard.
    fn send_name(&mut self, dir: &Path) -> Result<(), Error> {
        let Some(input) = self.0.last_mut().and_then(|guard| guard.stdin.as_mut()) else {
            return Ok(());
        };
        let name = dir.file_name().unwrap_or_default();
        input
            .write_all(&[name.as_encoded_bytes(), b"\n"].concat())
            .map_err(|cause| Error::io("cannot write to the guard", cause))
    }

    /// Starts the guards that stop the server and empty its directories.
    pub(super) fn empty(&mut self, user: &User, home: &Path, run_home: &Path) -> Result<(), Error> {
        let guard = |dir: &Path| {
            let mut empty = user.command("/bin/sh");
            empty.args(["-c", EMPTY, "pgbell-guard"]).args([home, run_home]);
            // `spawn` enters the directory before it returns, so its name is not used later.
            empty.current_dir(dir).stdout(Stdio::null());
            empty
        };
        self.set(guard(home))?;
        if run_home == home {
            return Ok(());
        }
        // The output of the guard that stops the process is the input of the other one. So the other one removes the data
        // only after the process has ended.
        let mut first = guard(run_home);
        if let Some(input) = self.0.last().and_then(|guard| guard.stdin.as_ref()) {
            let input = input.as_fd().try_clone_to_owned();
            first.stdout(input.map_err(|cause| Error::io("cannot share a pipe", cause))?);
        }
        self.set(first)
    }

    /// Ends the input of the guards, which makes them remove the remaining files.
    pub(super) fn order(&mut self) {
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
