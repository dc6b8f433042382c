//! [`DurableServer`]: a server whose durable commits take the same time on every machine.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, Instant};

use pgbell::Connection;
use pgbell_testkit::{Auth, Cluster, Direction, Flow, Proxy};

use super::{conninfo, median};
use crate::many::Size;
use crate::matchup::{Kind, Matchup};
use crate::outcome::Outcome;

/// What the proxy adds to each answer of the standby.
const DELAY: Duration = Duration::from_millis(2);

/// The longest time until commits wait for the standby.
const SYNCHRONOUS_MAX: Duration = Duration::from_secs(30);

/// PostgreSQL flushes whole pages of the write-ahead log.
const PAGE_BYTES: usize = 8_192;

/// A primary that flushes its log, and a synchronous standby behind a proxy with a delay.
#[derive(Debug)]
pub(crate) struct DurableServer {
    // Before the primary, which waits for it when it stops.
    _standby: Cluster,
    _proxy: Proxy,
    primary: Cluster,
}

impl DurableServer {
    /// Starts both servers, and waits until commits wait for the standby. The table of the jobs is there.
    pub(crate) fn start() -> Outcome<Self> {
        let primary = Cluster::builder()
            .auth(Auth::Trust)
            .setting("autovacuum", "off")
            .setting("fsync", "on")
            .setting("synchronous_commit", "on")
            .setting("max_connections", "200")
            .init_sql("CREATE TABLE jobs (key text NOT NULL)")
            .start()?;
        let proxy = Proxy::start(primary.port())?;
        let standby = primary.standby_through(&proxy)?;
        standby.wait_caught_up(&primary)?;
        proxy.handle().set(Direction::ToServer, Flow::Delay(DELAY));
        primary.set("synchronous_standby_names", "*")?;
        let server = Self { _standby: standby, _proxy: proxy, primary };
        let begin = Instant::now();
        while server.commits_ms(1)?.iter().any(|ms| *ms < DELAY.as_secs_f64() * 1e3) {
            if begin.elapsed() > SYNCHRONOUS_MAX {
                return Err("the commits do not wait for the standby".into());
            }
        }
        Ok(server)
    }

    pub(crate) fn port(&self) -> u16 {
        self.primary.port()
    }

    /// Returns the times of durable commits of one session, in milliseconds.
    fn commits_ms(&self, count: usize) -> Outcome<Vec<f64>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut session = Connection::connect(&*conninfo(self.port(), "commits")).await?;
            let mut all = Vec::with_capacity(count);
            for _ in 0..count {
                let begin = Instant::now();
                session.simple_query("INSERT INTO jobs VALUES ('commit')").await?;
                all.push(begin.elapsed().as_secs_f64() * 1e3);
            }
            session.close().await;
            Ok(all)
        })
    }

    /// Measures a flush of the disk, and a commit of one session.
    pub(super) fn flushes(&self, size: Size) -> Matchup {
        let names = ["fdatasync of the disk", "commit of one session"];
        let count = size.amount(200, 20);
        Matchup::together(Kind::Flush, size.rounds(3), names, || {
            let commit = median(self.commits_ms(count)?)?;
            if commit < DELAY.as_secs_f64() * 1e3 {
                return Err(format!("a commit took {commit} ms, less than the delay").into());
            }
            Ok([median(flushes_ms(count)?)?, commit])
        })
    }
}

/// Returns the times of flushes of a page, in milliseconds, in the directory in which the testkit makes the servers' directories.
fn flushes_ms(count: usize) -> Outcome<Vec<f64>> {
    let path = std::env::temp_dir().join(format!("pgbell-peers-flush-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    let measured = (|| {
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            file.write_all(&[7; PAGE_BYTES])?;
            let begin = Instant::now();
            file.sync_data()?;
            all.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        Ok(all)
    })();
    std::fs::remove_file(&path)?;
    measured
}
