//! One postmaster in a directory: start, wait until it is ready, stop.

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::files::{create, read_small, write_as};
use crate::guard::{Scratch, wait};
use crate::log::Log;
use crate::port;
use crate::signal::{Mode, Signal};

/// How long a restart waits for its port, and for the processes of a killed postmaster to end.
const LEFTOVERS_MAX: Duration = Duration::from_secs(20);

/// After this time those processes are helped to end. Up to version 14 an autovacuum launcher may go on for
/// ten seconds and more, asking a statistics collector that is no longer there. `SERVERS.md`, A kill right after the start.
const LEFTOVERS_END_ALONE: Duration = Duration::from_secs(1);

/// How long a server may take to die of SIGQUIT before SIGKILL.
const QUIT_MAX: Duration = Duration::from_secs(10);

/// OpenSSL's configuration for the server. That of the system may forbid what tests want to see: certificates
/// signed with SHA-1, old versions of TLS.
const OPENSSL: &str = "\
openssl_conf = init
[init]
ssl_conf = ssl
[ssl]
system_default = anything
[anything]
CipherString = DEFAULT@SECLEVEL=0
";

/// Where a server is and how it is started. The processes are in [`Server::running`].
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) scratch: Scratch,
    pub(crate) bin: PathBuf,
    pub(crate) port: u16,
    /// Whether clients get in over the Unix socket.
    pub(crate) unix_socket: bool,
    /// How long a start or a stop may take.
    pub(crate) patience: Duration,
    pub(crate) running: Option<Child>,
}

/// Why the postmaster did not come up.
enum Failure {
    /// Its port is taken, or processes of its predecessor live: worth another attempt.
    Passing(Error),
    Final(Error),
}

impl Server {
    pub(crate) fn data(&self) -> PathBuf {
        self.scratch.data()
    }

    pub(crate) fn log(&self) -> Log {
        Log::of(&self.scratch)
    }

    /// The Unix socket, which is there also where clients do not get in over it.
    pub(crate) fn socket(&self) -> PathBuf {
        self.scratch.socket_dir().join(format!(".s.PGSQL.{}", self.port))
    }

    /// A file in the data directory, for the server's user only.
    pub(crate) fn write_file(&self, name: &str, contents: &[u8]) -> Result<(), Error> {
        write_as(self.scratch.user(), &self.data().join(name), contents)
    }

    /// A command on this server's data directory. The guard knows of it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = self.scratch.command(&self.bin.join(program));
        command.arg("-D").arg(self.data());
        command
    }

    /// Starts on a port that is free.
    pub(crate) fn start_somewhere(&mut self) -> Result<(), Error> {
        let mut attempt = 1;
        loop {
            self.port = port::free()?;
            match self.launch() {
                Ok(()) => return Ok(()),
                Err(Failure::Passing(_)) if attempt < port::ATTEMPTS_MAX => attempt += 1,
                Err(Failure::Passing(error) | Failure::Final(error)) => return Err(error),
            }
        }
    }

    /// Starts on the port of the last start.
    pub(crate) fn start_again(&mut self) -> Result<(), Error> {
        if self.is_running() {
            return Err(Error::new("the server runs already"));
        }
        let begin = Instant::now();
        loop {
            match self.launch() {
                Ok(()) => return Ok(()),
                Err(Failure::Passing(_)) if begin.elapsed() < LEFTOVERS_MAX => {
                    if begin.elapsed() > LEFTOVERS_END_ALONE {
                        self.end_leftovers();
                    }
                    thread::sleep(Duration::from_millis(50));
                }
                Err(Failure::Passing(error) | Failure::Final(error)) => return Err(error),
            }
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        match self.running.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => true,
            Some(_) => {
                self.ended();
                false
            }
            None => false,
        }
    }

    fn ended(&mut self) {
        self.running = None;
        self.scratch.forget_process();
    }

    fn launch(&mut self) -> Result<(), Failure> {
        let log = self.log();
        let openssl = self.scratch.openssl();
        if !openssl.exists() {
            create(&openssl, OPENSSL.as_bytes(), 0o644).map_err(Failure::Final)?;
        }
        let mut command = self.command("postgres");
        command.env("OPENSSL_CONF", &openssl);
        command.args(["-p", &self.port.to_string(), "-k"]).arg(self.scratch.socket_dir());
        let begin = log.attach(&mut command).map_err(Failure::Final)?;
        let spawned = command.spawn().map_err(|cause| Error::io("cannot run postgres", cause));
        self.running = Some(spawned.map_err(Failure::Final)?);

        let outcome = self.wait_until_ready();
        outcome.map_err(|reason| {
            self.kill();
            let tail = log.tail(begin);
            let passing = ["Address already in use", "pre-existing shared memory block"]
                .iter()
                .any(|words| tail.contains(words));
            let error =
                Error::new(format!("the server on port {} {reason}", self.port)).with_log(tail);
            if passing { Failure::Passing(error) } else { Failure::Final(error) }
        })
    }

    /// Ready is: `postmaster.pid` is of this process and says so, and the port answers. `SERVERS.md`, Readiness.
    fn wait_until_ready(&mut self) -> Result<(), String> {
        let Some(child) = self.running.as_mut() else { return Err("is not there".to_owned()) };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let lock_path = self.scratch.data().join("postmaster.pid");
        let deadline = Instant::now() + self.patience;
        loop {
            match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return Err(format!("ended while it started ({status})")),
                Err(cause) => return Err(format!("cannot be waited for: {cause}")),
            }
            let lock = read_small(&lock_path);
            if is_ready(&lock, child.id())
                && TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
            {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("was not ready after {} s", self.patience.as_secs()));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Child::id)
    }

    /// Sends a signal to the postmaster.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        if !self.is_running() {
            return Err(Error::new("the server does not run"));
        }
        self.pid().map_or(Ok(()), |pid| signal.send(pid))
    }

    /// Stops and waits. A server that does not run is stopped already.
    pub(crate) fn stop(&mut self, mode: Mode) -> Result<(), Error> {
        if !self.is_running() {
            return Ok(());
        }
        self.signal(mode.signal())?;
        if self.wait(self.patience).is_some() {
            return Ok(());
        }
        let message = format!(
            "the server did not stop within {} s ({mode:?}): it still has sessions, or hangs",
            self.patience.as_secs()
        );
        Err(Error::new(message).with_log(self.log().tail(0)))
    }

    /// Ends the postmaster without its having a say. Its children notice by themselves.
    pub(crate) fn kill(&mut self) {
        if let Some(child) = self.running.as_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.ended();
    }

    fn wait(&mut self, longest: Duration) -> Option<ExitStatus> {
        let status = wait(self.running.as_mut()?, longest)?;
        self.ended();
        Some(status)
    }

    /// Ends the processes that a killed postmaster left. Where there is no `/proc` they are waited for only.
    fn end_leftovers(&self) {
        // Gone in the meantime is as good.
        let _ = Signal::Kill.send_all(&self.processes());
    }

    /// The server's processes, the postmaster among them. They are where every server process is: in the data
    /// directory.
    fn processes(&self) -> Vec<u32> {
        let data = self.data();
        let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
        let here = |path: PathBuf| fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd == data);
        let all = processes.flatten().filter(|process| here(process.path()));
        all.filter_map(|process| process.file_name().to_string_lossy().parse().ok()).collect()
    }

    /// Takes away the shared memory of a postmaster that was killed: the kernel would keep it. `SERVERS.md`, Shared memory.
    fn remove_shared_memory(&self) {
        let lock = read_small(&self.data().join("postmaster.pid"));
        // The seventh line is key and identifier.
        let Some(id) = lock.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) else {
            return;
        };
        let mut command = self.scratch.user().command("ipcrm");
        command.args(["-m", id]).stdout(Stdio::null()).stderr(Stdio::null());
        // A few bytes are left where there is no ipcrm.
        let _ = command.status();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.is_running() {
            // A postmaster that a test froze would not hear the rest, and would wait for a frozen child. All of
            // them go on: a SIGSTOP may still be on its way.
            let _ = self.signal(Signal::Cont);
            let _ = Signal::Cont.send_all(&self.processes());
            let _ = self.signal(Mode::Fast.signal());
            if self.wait(QUIT_MAX).is_none() {
                let _ = self.signal(Mode::Immediate.signal());
                if self.wait(QUIT_MAX).is_none() {
                    self.kill();
                }
            }
        }
        if self.data().join("postmaster.pid").exists() {
            // It had no time to clean up.
            self.end_leftovers();
            self.remove_shared_memory();
        }
    }
}

fn is_ready(lock: &str, pid: u32) -> bool {
    let mut lines = lock.lines();
    let own = lines.next().is_some_and(|line| line.trim() == pid.to_string());
    // `standby` is what a server says that takes no queries before its promotion.
    own && lines.nth(6).is_some_and(|status| matches!(status.trim(), "ready" | "standby"))
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Passing(error) | Self::Final(error)) = self;
        error.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_needs_the_own_process_and_the_last_line() {
        let lock = |pid: u32, status: &str| {
            format!("{pid}\n/d\n1700000000\n5432\n/s\n127.0.0.1\n 1 2\n{status}\n")
        };
        assert!(is_ready(&lock(7, "ready   "), 7));
        assert!(is_ready(&lock(7, "standby "), 7));
        assert!(!is_ready(&lock(7, "starting"), 7));
        assert!(!is_ready(&lock(7, "stopping"), 7));
        assert!(!is_ready(&lock(8, "ready   "), 7));
        assert!(!is_ready("7\n/d\n", 7));
        assert!(!is_ready("", 7));
    }
}
