//! The parent's handle of a client process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child as Process, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::outcome::{Failure, Outcome};
use crate::tally::READY;

/// The time limit of a client for its whole run.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(180);

/// A process of this program that communicates in lines. It is killed when it is dropped or exceeds the time limit.
#[derive(Debug)]
pub(crate) struct Child {
    process: Arc<Mutex<Process>>,
    pub(crate) input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// Dropped to end the watch.
    watch: Option<mpsc::Sender<()>>,
}

impl Child {
    /// Starts this program again, with other arguments.
    pub(crate) fn start(arguments: &[String]) -> Outcome<Self> {
        Self::start_program(&std::env::current_exe()?, arguments)
    }

    /// Starts a build of this program.
    pub(crate) fn start_program(program: &Path, arguments: &[String]) -> Outcome<Self> {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::spawn(command)
    }

    /// Starts a command that finally runs this program.
    pub(crate) fn spawn(mut command: Command) -> Outcome<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // The environment must not change where a client connects.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("PG")) {
                command.env_remove(name);
            }
        }
        let mut process = command.spawn()?;
        let input = process.stdin.take();
        let output = process.stdout.take().ok_or("a process without output")?;
        Ok(Self {
            process: Arc::new(Mutex::new(process)),
            input,
            output: BufReader::new(output),
            watch: None,
        })
    }

    /// Ends the process at the time limit.
    pub(crate) fn watched(self) -> Self {
        self.watched_beyond(Duration::ZERO)
    }

    /// Ends the process at the time limit after the time that its measurement takes.
    pub(crate) fn watched_beyond(mut self, measurement: Duration) -> Self {
        let limit = measurement.saturating_add(CLIENT_TIMEOUT);
        let (watch, called_off) = mpsc::channel::<()>();
        let process = self.process.clone();
        thread::spawn(move || {
            if called_off.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = process.lock().unwrap_or_else(PoisonError::into_inner).kill();
            }
        });
        self.watch = Some(watch);
        self
    }

    /// Waits until the client listens.
    pub(crate) fn wait_until_ready(&mut self) -> Outcome<()> {
        match self.line()? {
            line if line == READY => Ok(()),
            line => Err(format!("expected {READY}, found {line:?}").into()),
        }
    }

    /// Reads the next line as JSON.
    pub(crate) fn value<T: DeserializeOwned>(&mut self) -> Outcome<T> {
        Ok(serde_json::from_str(&self.line()?)?)
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("the process ended without output".into());
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }

    /// Lets the process end, and waits for its end.
    pub(crate) fn finish(mut self) -> Outcome<()> {
        drop(self.input.take());
        let rest = self.line().err().map_or(Err(Failure::from("one line too many")), |_| Ok(()));
        let status = self.process.lock().unwrap_or_else(PoisonError::into_inner).wait()?;
        if status.success() { rest } else { Err(format!("the process ended with {status}").into()) }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.watch.take());
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = process.kill();
        let _ = process.wait();
    }
}
