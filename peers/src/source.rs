//! The senders of the notifications.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use pgbell::Connection;
use pgbell_testkit::Cluster;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::child::Child;
use crate::client::USER;
use crate::digest::Digest;
use crate::outcome::Outcome;
use crate::replay::Sent;
use crate::shape::Shape;
use crate::tally::nanos;
use crate::tls::Identity;
use crate::usage;

/// The kinds of senders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Origin {
    /// A server that sends notifications encoded in advance.
    Replay,
    /// The same over TLS: it sends data encrypted in advance.
    Tls,
    /// PostgreSQL: one transaction of another session with unique `pg_notify` calls.
    Postgres,
    /// The client's own memory, for the decoders.
    Memory,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Replay => "replay server",
            Self::Tls => "replay server over TLS",
            Self::Postgres => "PostgreSQL",
            Self::Memory => "memory",
        })
    }
}

/// A running sender.
#[derive(Debug)]
pub(crate) enum Source {
    Replay { process: Child, port: u16, identity: Option<Box<Identity>> },
    Postgres(Box<Postgres>),
    Memory(Expected),
}

impl Source {
    pub(crate) fn replay(
        shape: Shape,
        write_bytes: usize,
        cores: &[usize],
        identity: Option<Identity>,
    ) -> Outcome<Self> {
        Self::replay_with(shape, write_bytes, cores, identity, Duration::ZERO)
    }

    /// Starts a replay server that pauses after each write.
    pub(crate) fn bursts(
        shape: Shape,
        burst: u64,
        pause: Duration,
        cores: &[usize],
    ) -> Outcome<Self> {
        let write_bytes = usize::try_from(burst)? * shape.size;
        Self::replay_with(shape, write_bytes, cores, None, pause)
    }

    fn replay_with(
        shape: Shape,
        write_bytes: usize,
        cores: &[usize],
        identity: Option<Identity>,
        pause: Duration,
    ) -> Outcome<Self> {
        let mut arguments = vec!["replay".to_owned()];
        arguments.extend(["--pause-micros".to_owned(), pause.as_micros().to_string()]);
        arguments.extend(options(shape, cores));
        arguments.extend(["--write-bytes".to_owned(), write_bytes.to_string()]);
        if let Some(identity) = &identity {
            let [certificate, key] = identity.files();
            arguments.extend(["--certificate".to_owned(), text(certificate)?]);
            arguments.extend(["--key".to_owned(), text(key)?]);
        }
        let mut process = Child::start(&arguments)?;
        let port = process.value()?;
        Ok(Self::Replay { process, port, identity: identity.map(Box::new) })
    }

    /// Returns the arguments with which a client connects.
    pub(crate) fn address(&self) -> Outcome<Vec<String>> {
        let mut arguments = vec!["--port".to_owned(), self.port().to_string()];
        if let Self::Replay { identity: Some(identity), .. } = self {
            arguments.extend(["--root".to_owned(), text(identity.root())?]);
        }
        Ok(arguments)
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Replay { port, .. } => *port,
            Self::Postgres(postgres) => postgres.port,
            Self::Memory(_) => 0,
        }
    }

    /// Returns whether clients connect to a server.
    pub(crate) fn is_remote(&self) -> bool {
        !matches!(self, Self::Memory(_))
    }

    /// Computes in advance what will be sent, if that takes time.
    pub(crate) fn prepare(&mut self, count: u64) -> Outcome<()> {
        match self {
            Self::Replay { .. } => {}
            Self::Postgres(postgres) => {
                if !postgres.expected.shape.is_unique(count) {
                    return Err(format!("{count} notifications of this size are not unique").into());
                }
                postgres.expected.prepare(count);
            }
            Self::Memory(expected) => expected.prepare(count),
        }
        Ok(())
    }

    /// Sends to the client that listens. May return before all is sent.
    pub(crate) fn go(&mut self, count: u64) -> Outcome<()> {
        match self {
            Self::Replay { .. } => self.command("go", count),
            Self::Postgres(postgres) => postgres.go(count),
            Self::Memory(_) => Ok(()),
        }
    }

    /// Lets a replay server send at the pace of PostgreSQL.
    pub(crate) fn pace(&mut self, count: u64) -> Outcome<()> {
        self.command("pace", count)
    }

    fn command(&mut self, command: &str, count: u64) -> Outcome<()> {
        let Self::Replay { process, .. } = self else { return Err("no replay server".into()) };
        let input = process.input.as_mut().ok_or("a server without input")?;
        writeln!(input, "{command} {count}")?;
        Ok(input.flush()?)
    }

    /// Returns what was sent. Called while the client is still connected.
    pub(crate) fn sent(&mut self) -> Outcome<Sent> {
        match self {
            Self::Replay { process, .. } => process.value(),
            Self::Postgres(postgres) => {
                let used = postgres.listener_time().saturating_sub(postgres.used_before);
                Ok(postgres.expected.sent(used))
            }
            Self::Memory(expected) => Ok(expected.sent(Duration::ZERO)),
        }
    }
}

/// Returns the shape and `--cores` for a process.
pub(crate) fn options(shape: Shape, cores: &[usize]) -> Vec<String> {
    let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
    let size = shape.size.to_string();
    let channels = shape.channels.to_string();
    let mut options = vec![("--size", size), ("--channels", channels)];
    if !cores.is_empty() {
        options.push(("--cores", cores.join(",")));
    }
    // An older build does not know topics.
    if shape.topics > 0 {
        options.extend([("--topics", shape.topics.to_string()), ("--run", shape.run.to_string())]);
    }
    options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
}

fn text(path: &Path) -> Outcome<String> {
    Ok(path.to_str().ok_or("a path that is not UTF-8")?.to_owned())
}

/// The notifications that must arrive.
#[derive(Debug)]
pub(crate) struct Expected {
    shape: Shape,
    /// The block that is sent repeatedly. `None`: all notifications are different.
    block: Option<crate::shape::Block>,
    count: u64,
    digest: Digest,
}

impl Expected {
    pub(crate) fn new(shape: Shape, block: Option<crate::shape::Block>) -> Self {
        Self { shape, block, count: 0, digest: Digest::default() }
    }

    fn prepare(&mut self, count: u64) {
        if self.count != count {
            self.digest = match &self.block {
                Some(block) => block.digest(count),
                None => self.shape.digest(count),
            };
            self.count = count;
        }
    }

    fn sent(&self, used: Duration) -> Sent {
        Sent {
            count: self.digest.count,
            bytes: self.digest.bytes,
            checksum: self.digest.checksum(),
            wall_ns: 0,
            cpu_ns: nanos(used),
        }
    }
}

/// The session that notifies, and the server process that sends to the client.
pub(crate) struct Postgres {
    port: u16,
    runtime: Runtime,
    notifier: Connection,
    expected: Expected,
    /// The server process of the client, once it is connected.
    listener: i32,
    used_before: Duration,
}

impl Postgres {
    pub(crate) fn new(cluster: &Cluster, shape: Shape) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let port = cluster.port();
        let conninfo = format!("host=127.0.0.1 port={port} user={USER} dbname={USER}");
        let notifier = runtime.block_on(Connection::connect(&*conninfo))?;
        let expected = Expected::new(shape, None);
        let used_before = Duration::ZERO;
        Ok(Self { port, runtime, notifier, expected, listener: 0, used_before })
    }

    fn go(&mut self, count: u64) -> Outcome<()> {
        let find = "SELECT pid FROM pg_stat_activity \
                    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() \
                    ORDER BY backend_start DESC LIMIT 1";
        let found = self.runtime.block_on(self.notifier.query(find, &[]))?;
        let pid = found.iter().next().and_then(|row| row.get(0).map(str::to_owned));
        self.listener = pid.ok_or("no session listens")?.parse()?;
        self.used_before = self.listener_time();
        let sql = self.expected.shape.notify_sql(0, count);
        self.runtime.block_on(self.notifier.simple_query(&sql))?;
        Ok(())
    }

    fn listener_time(&self) -> Duration {
        usage::of_process(self.listener)
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("port", &self.port).finish_non_exhaustive()
    }
}
