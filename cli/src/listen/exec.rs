//! [`Commands`]: the programs of `--exec`.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::args::Listen;
use crate::console;
use crate::exit::{Exit, Failure};
use crate::numbers::{counted, grouped};
use crate::record::{Item, JSON_DECIMALS, timestamp};

/// The time that running commands get after a signal to the program, before they are killed.
const GRACE: Duration = Duration::from_secs(5);

/// What one command gets.
struct Task {
    command: Command,
    payload: Vec<u8>,
    /// Which notification it is for, in messages.
    name: String,
}

/// How a command has ended.
struct Ended {
    name: String,
    status: io::Result<ExitStatus>,
}

/// Runs the command of `--exec`, a bounded number of times at once.
pub(super) struct Commands {
    command: String,
    jobs: usize,
    fails_fast: bool,
    running: JoinSet<Ended>,
    succeeded: u64,
    failed: u64,
}

impl Commands {
    pub(super) fn new(args: &Listen) -> Option<Self> {
        Some(Self {
            command: args.exec.clone()?,
            jobs: args.jobs.into(),
            fails_fast: args.exec_fail_fast,
            running: JoinSet::new(),
            succeeded: 0,
            failed: 0,
        })
    }

    /// Returns how many more may be started.
    pub(super) fn free(&self) -> usize {
        self.jobs.saturating_sub(self.running.len())
    }

    pub(super) fn start(&mut self, item: &Item<'_>, received_at: SystemTime) {
        let mut command = Command::new("sh");
        command.arg("-c").arg(&self.command).stdin(Stdio::piped());
        // A group of its own: Ctrl-C on a terminal would end it at once, and all of it can be killed.
        command.process_group(0).kill_on_drop(true);
        // A name of a channel or a topic contains no NUL.
        command.env("PGBELL_CHANNEL", item.channel);
        command.env("PGBELL_PID", item.process_id.to_string());
        command.env("PGBELL_SEQUENCE", item.sequence.to_string());
        command.env("PGBELL_RECEIVED_AT", timestamp(received_at, JSON_DECIMALS));
        match item.topic {
            Some(topic) => command.env("PGBELL_TOPIC", topic),
            None => command.env_remove("PGBELL_TOPIC"),
        };
        let name = format!("{} #{}", item.channel, item.sequence);
        let task = Task { command, payload: item.payload.as_bytes().to_vec(), name };
        self.running.spawn(run(task));
    }

    /// Waits for the end of a command. Never completes if none runs. Cancel safe.
    ///
    /// # Errors
    /// The failure of the command, if the program is to end with it.
    pub(super) async fn next(&mut self) -> Result<(), Failure> {
        match self.running.join_next().await {
            None => std::future::pending().await,
            // It was aborted, or has panicked.
            Some(Err(_)) => Ok(()),
            Some(Ok(ended)) => self.take(ended),
        }
    }

    fn take(&mut self, Ended { name, status }: Ended) -> Result<(), Failure> {
        let why = match status {
            Ok(status) if status.success() => {
                self.succeeded += 1;
                return Ok(());
            }
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        self.failed += 1;
        let message = format!("the command for {name} failed: {why}");
        if self.fails_fast {
            return Err(Failure::new(Exit::Runtime, message));
        }
        console::line(&format!("pgbell: {message}"));
        Ok(())
    }

    /// Waits for all commands.
    pub(super) async fn finish(&mut self) -> Result<(), Failure> {
        while !self.running.is_empty() {
            self.next().await?;
        }
        Ok(())
    }

    /// Waits a bounded time for all commands, and kills those that are left.
    pub(super) async fn stop(&mut self) {
        if self.running.is_empty() {
            return;
        }
        // Their failures were printed, and the program ends already.
        if timeout(GRACE, self.finish()).await.is_err() {
            let killed = counted(self.running.len() as u64, "command", "commands");
            console::line(&format!("pgbell: {killed} did not end within 5 s, killed"));
        }
        // Each kills its group when it is dropped.
        self.running.shutdown().await;
    }

    pub(super) fn summary(&self) -> String {
        format!("{} run, {} failed", grouped(self.succeeded + self.failed), grouped(self.failed))
    }
}

/// Kills what is left of a group of processes.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // If it has ended, this fails.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn run(Task { mut command, payload, name }: Task) -> Ended {
    let status = async {
        let mut child = command.spawn()?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let mut group = Group(pid);
        let stdin = child.stdin.take();
        let write = async {
            if let Some(mut stdin) = stdin {
                // A command need not read it.
                let _ = stdin.write_all(&payload).await;
            }
        };
        let (status, ()) = tokio::join!(child.wait(), write);
        // What it has started in the background goes on.
        group.0 = None;
        status
    };
    Ended { name, status: status.await }
}
