//! Signals by name. std cannot send one without `unsafe`, the shell can.

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
