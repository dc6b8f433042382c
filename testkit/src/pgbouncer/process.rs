//! The program and its directory: start, wait until it is ready, stop.

use std::env;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, NotFound};
use crate::files::write_as;
use crate::guard::{Scratch, wait};
use crate::log::Log;
use crate::signal::Signal;
use crate::user::User;

/// Directories that are searched besides those of `PATH`: the `PATH` of ordinary users often does not have them.
const SYSTEM_DIRS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/usr/local/bin"];

/// What PgBouncer logs when it is ready for connections.
const READY: &str = "process up: PgBouncer";

/// The longest time to end after SIGTERM, before SIGKILL is sent.
const TERM_MAX: Duration = Duration::from_secs(5);

/// The program in a directory with its files.
pub(super) struct Process {
    scratch: Scratch,
    program: PathBuf,
    pub(super) port: u16,
    timeout: Duration,
    pub(super) running: Option<Child>,
}

impl Process {
    /// Makes a directory for a pooler that is not configured yet.
    pub(super) fn new(timeout: Duration) -> Result<Self, Error> {
        let program = program()?;
        let scratch = Scratch::new(&User::detect()?, None)?;
        Ok(Self { scratch, program, port: 0, timeout, running: None })
    }

    pub(super) fn log(&self) -> Log {
        Log::of(&self.scratch)
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.scratch.socket_dir().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        write_as(self.scratch.user(), &self.file(name), text.as_bytes())
    }

    pub(super) fn is_running(&mut self) -> bool {
        let runs = matches!(self.running.as_mut().map(Child::try_wait), Some(Ok(None)));
        if !runs && self.running.take().is_some() {
            self.scratch.forget_process();
        }
        runs
    }

    pub(super) fn launch(&mut self) -> Result<(), Error> {
        let log = self.log();
        let mut command = self.scratch.command(&self.program);
        command.arg(self.file("pgbouncer.ini"));
        let begin = log.attach(&mut command)?;
        let spawned = command.spawn().map_err(|cause| Error::io("cannot run pgbouncer", cause))?;
        self.running = Some(spawned);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let deadline = Instant::now() + self.timeout;
        loop {
            let runs = self.is_running();
            let ready = log.since(begin).is_ok_and(|said| said.contains(READY));
            if runs && ready && TcpStream::connect(address).is_ok() {
                return Ok(());
            }
            if !runs || Instant::now() >= deadline {
                self.stop();
                let reason = if runs { "was not ready in time" } else { "ended while it started" };
                let error = Error::new(format!("PgBouncer on port {} {reason}", self.port));
                return Err(error.with_log(log.tail(begin)));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn stop(&mut self) {
        let Some(child) = self.running.as_mut() else { return };
        // A process that a test has frozen would not react to other signals.
        for signal in [Signal::Cont, Signal::Term] {
            let _ = signal.send(child.id());
        }
        if wait(child, TERM_MAX).is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.running = None;
        self.scratch.forget_process();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Returns `PGBELL_PGBOUNCER`, else the first in `PATH` and the directories of system programs.
fn program() -> Result<PathBuf, NotFound> {
    if let Some(program) = env::var_os("PGBELL_PGBOUNCER").filter(|path| !path.is_empty()) {
        let program = PathBuf::from(program);
        if program.is_file() {
            return Ok(program);
        }
        return Err(NotFound::pgbouncer(format!("there is no program {}", program.display())));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SYSTEM_DIRS.map(PathBuf::from))
        .map(|dir| dir.join("pgbouncer"))
        .find(|program| program.is_file())
        .ok_or_else(|| {
            NotFound::pgbouncer(format!("no `pgbouncer` on PATH or in {}", SYSTEM_DIRS.join(", ")))
        })
}
