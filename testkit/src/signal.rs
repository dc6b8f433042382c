//! Signals by name. std cannot send one without `unsafe`, the shell can.

use std::fs;
use std::process::{Command, Stdio};

use crate::error::Error;

/// How a server is asked to stop. The manual's words ("Shutting Down the Server").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// SIGTERM: no new session, the present ones may finish.
    Smart,
    /// SIGINT: sessions are ended with SQLSTATE 57P01, then the server stops in good order.
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

/// A signal for a server process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// SIGHUP: read the configuration again.
    Hup,
    /// SIGINT: for a backend, cancel its query.
    Int,
    /// SIGTERM: for a backend, end its session.
    Term,
    /// SIGQUIT: die at once, with clean-up of shared memory.
    Quit,
    /// SIGKILL: die at once; the other backends are restarted.
    Kill,
    /// SIGSTOP: freeze. The peer sees silence, not an end.
    Stop,
    /// SIGCONT: go on.
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

    /// Sends the signal to one process.
    pub(crate) fn send(self, pid: u32) -> Result<(), Error> {
        let output = Command::new("/bin/sh")
            .args(["-c", r#"kill -s "$1" "$2""#, "sh", self.name(), &pid.to_string()])
            .stdin(Stdio::null())
            .output()
            .map_err(|cause| Error::io("cannot run /bin/sh to send a signal", cause))?;
        if output.status.success() {
            Ok(())
        } else {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(Error::new(format!("cannot send SIG{} to process {pid}: {said}", self.name())))
        }
    }
}

/// What the system says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    pub(crate) parent: u32,
    /// `T` is stopped.
    pub(crate) state: char,
}

/// From `/proc`, else from `ps`. `None` when there is no such process.
pub(crate) fn process_stat(pid: u32) -> Option<ProcessStat> {
    let fields = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        // `pid (name) state parent …`, and the name may hold anything.
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
    fn a_process_has_a_parent_and_a_state() {
        let child = Command::new("/bin/sh").args(["-c", "echo $PPID"]).output().unwrap();
        assert_eq!(String::from_utf8(child.stdout).unwrap().trim(), std::process::id().to_string());
        let own = process_stat(std::process::id()).unwrap();
        assert_eq!(own.parent, std::os::unix::process::parent_id());
        assert!("RS".contains(own.state), "{own:?}");
        assert_eq!(process_stat(u32::MAX), None);
    }
}
