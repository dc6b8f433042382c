//! Signals by name. They are sent by the shell, because std cannot send them without `unsafe`.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;

/// The longest time until a process is frozen: it must get processor time first.
const STOP_MAX: Duration = Duration::from_secs(10);

/// How a server is asked to stop, in the terms of the manual ("Shutting Down the Server").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// SIGTERM: no new sessions; the server waits for the present ones.
    Smart,
    /// SIGINT: sessions are ended with SQLSTATE 57P01, then the server shuts down cleanly.
    Fast,
    /// SIGQUIT: everything ends at once, and the next start begins with recovery.
    Immediate,
}

impl Mode {
    pub(crate) fn signal(self) -> Signal {
        match self {
            Self::Smart => Signal::Term,
            Self::Fast => Signal::Int,
            Self::Immediate => Signal::Quit,
        }
    }
}

/// A signal for a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// SIGHUP: read the configuration again.
    Hup,
    /// SIGINT: for a backend, cancel its query.
    Int,
    /// SIGTERM: for a backend, end its session.
    Term,
    /// SIGQUIT: end at once, with clean-up of shared memory.
    Quit,
    /// SIGKILL: end at once; the server restarts the other backends.
    Kill,
    /// SIGSTOP: freeze. The peer receives nothing, and sees no end of the connection.
    Stop,
    /// SIGCONT: continue.
    Cont,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Hup => "HUP",
            Self::Int => "INT",
            Self::Term => "TERM",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Cont => "CONT",
        }
    }

    /// Sends the signal to one process, of a server or of the test. After [`Signal::Stop`] the process is frozen when
    /// this returns.
    ///
    /// # Errors
    /// If there is no such process, or it belongs to another user.
    pub fn send(self, pid: u32) -> Result<(), Error> {
        self.send_all(&[pid])?;
        let deadline = Instant::now() + STOP_MAX;
        while self == Self::Stop && process_stat(pid).is_some_and(|stat| !stat.is_stopped()) {
            if Instant::now() >= deadline {
                return Err(Error::new(format!("process {pid} does not freeze")));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Sends the signal to each process. If one has ended, the others get the signal, and the result is an error.
    pub(crate) fn send_all(self, pids: &[u32]) -> Result<(), Error> {
        if pids.is_empty() {
            return Ok(());
        }
        let output = Command::new("/bin/sh")
            .args(["-c", r#"signal=$1; shift; kill -s "$signal" "$@""#, "sh", self.name()])
            .args(pids.iter().map(u32::to_string))
            .stdin(Stdio::null())
            .output()
            .map_err(|cause| Error::io("cannot run /bin/sh to send a signal", cause))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Error::new(format!("cannot send SIG{} to process {pids:?}: {said}", self.name())))
    }
}

/// The state of a process, from the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    pub(crate) parent: u32,
    state: char,
}

impl ProcessStat {
    fn is_stopped(self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

/// Reads the state of a process from `/proc`, else from `ps`. Returns `None` if there is no such process.
pub(crate) fn process_stat(pid: u32) -> Option<ProcessStat> {
    let fields = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        // `pid (name) state parent …`, and the name may have any characters.
        Ok(stat) => stat.rsplit_once(')')?.1.to_owned(),
        Err(_) => {
            let mut ps = Command::new("ps");
            ps.args(["-o", "state=", "-o", "ppid=", "-p", &pid.to_string()]).stdin(Stdio::null());
            String::from_utf8(ps.output().ok()?.stdout).ok()?
        }
    };
    let mut fields = fields.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some(ProcessStat { parent: fields.next()?.parse().ok()?, state })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_parent() {
        let child = Command::new("/bin/sh").args(["-c", "echo $PPID"]).output().unwrap();
        assert_eq!(String::from_utf8(child.stdout).unwrap().trim(), std::process::id().to_string());
        let parent = process_stat(std::process::id()).map(|stat| stat.parent);
        assert_eq!(parent, Some(std::os::unix::process::parent_id()));
        assert_eq!(process_stat(u32::MAX), None);
    }

    #[test]
    fn a_process_is_frozen_at_once_and_goes_on() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        for _ in 0..20 {
            Signal::Stop.send(child.id()).unwrap();
            assert!(process_stat(child.id()).unwrap().is_stopped());
            Signal::Cont.send(child.id()).unwrap();
        }
        Signal::Kill.send(child.id()).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_is_gone_does_not_keep_a_signal_from_the_others() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        assert!(Signal::Kill.send_all(&[u32::MAX >> 1, child.id()]).is_err());
        assert!(!child.wait().unwrap().success());
        Signal::Kill.send_all(&[]).unwrap();
    }
}
