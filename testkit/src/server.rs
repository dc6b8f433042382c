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

/// After this time those processes are ended. Up to version 14 an autovacuum launcher may continue for
/// ten seconds and more, and ask a statistics collector that has ended. `SERVERS.md`, A kill right after the start.
const LEFTOVERS_END_ALONE: Duration = Duration::from_secs(1);

/// The longest time of a server to end after SIGQUIT, before SIGKILL is sent.
const QUIT_MAX: Duration = Duration::from_secs(10);

/// OpenSSL's configuration for the server. That of the system may forbid what tests need: certificates
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

/// The directories of a server and how it is started. Its process is in [`Server::running`].
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) scratch: Scratch,
    pub(crate) bin: PathBuf,
    pub(crate) port: u16,
    /// Whether clients can log in over the Unix socket.
    pub(crate) unix_socket: bool,
    /// The longest time of a start or a stop.
    pub(crate) timeout: Duration,
    pub(crate) running: Option<Child>,
}

/// Why the postmaster did not become ready.
enum Failure {
    /// Its port is in use, or processes of the one before still run: another attempt may succeed.
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

    /// Returns the Unix socket, which exists even if clients cannot log in over it.
    pub(crate) fn socket(&self) -> PathBuf {
        self.scratch.socket_dir().join(format!(".s.PGSQL.{}", self.port))
    }

    /// Writes a file in the data directory, which only the server's user can read.
    pub(crate) fn write_file(&self, name: &str, contents: &[u8]) -> Result<(), Error> {
        write_as(self.scratch.user(), &self.data().join(name), contents)
    }

    /// Returns a command for this server's data directory, whose process id is recorded for the guard.
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

    /// Waits until `postmaster.pid` has the id of this process and says that it is ready, and the port accepts connections. `SERVERS.md`, Readiness.
    fn wait_until_ready(&mut self) -> Result<(), String> {
        let Some(child) = self.running.as_mut() else { return Err("is not there".to_owned()) };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let lock_path = self.scratch.data().join("postmaster.pid");
        let deadline = Instant::now() + self.timeout;
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
                return Err(format!("was not ready after {} s", self.timeout.as_secs()));
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

    /// Stops the server and waits. Does nothing if it does not run.
    pub(crate) fn stop(&mut self, mode: Mode) -> Result<(), Error> {
        if !self.is_running() {
            return Ok(());
        }
        self.signal(mode.signal())?;
        if self.wait(self.timeout).is_some() {
            return Ok(());
        }
        let message = format!(
            "the server did not stop within {} s ({mode:?}): it still has sessions, or hangs",
            self.timeout.as_secs()
        );
        Err(Error::new(message).with_log(self.log().tail(0)))
    }

    /// Kills the postmaster. Its children notice that by themselves.
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

    /// Ends the processes that a killed postmaster left. If there is no `/proc`, it only waits for them.
    fn end_leftovers(&self) {
        // An error means that the process has ended already.
        let _ = Signal::Kill.send_all(&self.processes());
    }

    /// Returns the server's processes, the postmaster too. They are found by their working directory, which is the data
    /// directory.
    fn processes(&self) -> Vec<u32> {
        let data = self.data();
        let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
        let here = |path: PathBuf| fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd == data);
        let all = processes.flatten().filter(|process| here(process.path()));
        all.filter_map(|process| process.file_name().to_string_lossy().parse().ok()).collect()
    }

    /// Removes the shared memory of a postmaster that was killed, because the kernel would keep it. `SERVERS.md`, Shared memory.
    fn remove_shared_memory(&self) {
        let lock = read_small(&self.data().join("postmaster.pid"));
        // The seventh line has the key and the identifier.
        let Some(id) = lock.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) else {
            return;
        };
        let mut command = self.scratch.user().command("ipcrm");
        command.args(["-m", id]).stdout(Stdio::null()).stderr(Stdio::null());
        // Without ipcrm a few bytes of shared memory remain.
        let _ = command.status();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.is_running() {
            // A postmaster that a test has frozen would not react to other signals, and would wait for a frozen child. So all
            // of them get SIGCONT: a SIGSTOP may not have arrived yet.
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
            // The killed postmaster could not remove its shared memory.
            self.end_leftovers();
            self.remove_shared_memory();
        }
    }
}

fn is_ready(lock: &str, pid: u32) -> bool {
    let mut lines = lock.lines();
    let own = lines.next().is_some_and(|line| line.trim() == pid.to_string());
    // `standby` means a server that accepts no queries before its promotion.
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
