//! The measured part of a client's run.

use std::io::Write;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::outcome::Outcome;
use crate::usage::{Usage, peak_rss_kib};

/// The line that a client prints when it listens.
pub(crate) const READY: &str = "ready";

/// The measurement of a client: one line of JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) notifications: u64,
    /// The bytes of channels and payloads. For clients that do not parse, the bytes of the wire.
    pub(crate) bytes: u64,
    /// None for clients that do not parse.
    pub(crate) checksum: Option<u64>,
    /// From the confirmed LISTEN to the last notification.
    pub(crate) wall_ns: u64,
    /// From the confirmed LISTEN to the first notification.
    pub(crate) first_ns: u64,
    pub(crate) cpu_user_ns: u64,
    pub(crate) cpu_sys_ns: u64,
    pub(crate) peak_rss_kib: u64,
}

impl Report {
    pub(crate) fn of(digest: &Digest, wall: Duration, used: Usage) -> Outcome<Self> {
        Ok(Self {
            notifications: digest.count,
            bytes: digest.bytes,
            checksum: Some(digest.checksum()),
            wall_ns: nanos(wall),
            first_ns: 0,
            cpu_user_ns: nanos(used.user),
            cpu_sys_ns: nanos(used.system),
            peak_rss_kib: peak_rss_kib()?,
        })
    }
}

pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Counts what a client receives, from the moment at which it listens.
#[derive(Debug)]
pub(crate) struct Tally {
    wanted: u64,
    digest: Digest,
    begin: Instant,
    first: Option<Duration>,
    usage: Usage,
}

impl Tally {
    /// Begins the measurement when LISTEN is confirmed, and reports it to the parent.
    pub(crate) fn begin(wanted: u64) -> Outcome<Self> {
        let usage = Usage::of_process()?;
        let begin = Instant::now();
        print_ready()?;
        Ok(Self { wanted, digest: Digest::default(), begin, first: None, usage })
    }

    /// Records that bytes were received. Called before they are handled, at least for the first ones.
    #[inline]
    pub(crate) fn arrived(&mut self) {
        if self.first.is_none() {
            self.first = Some(self.begin.elapsed());
        }
    }

    #[inline]
    pub(crate) fn add(&mut self, channel: &[u8], payload: &[u8]) {
        self.digest.add(channel, payload);
    }

    #[inline]
    pub(crate) fn is_complete(&self) -> bool {
        self.digest.count >= self.wanted
    }

    /// Ends the measurement after the last notification, and reports it to the parent.
    ///
    /// The caller still has its connection then, so that the parent can read the processor time of its server process.
    pub(crate) fn finish(self) -> Outcome<()> {
        print_line(&self.report()?)
    }

    /// The same for a client that only counts bytes of the wire.
    pub(crate) fn finish_raw(self, bytes: u64, size: usize) -> Outcome<()> {
        let report = self.report()?;
        print_line(&Report { bytes, notifications: bytes / size as u64, checksum: None, ..report })
    }

    fn report(&self) -> Outcome<Report> {
        let wall = self.begin.elapsed();
        let used = Usage::of_process()?.since(&self.usage);
        let mut report = Report::of(&self.digest, wall, used)?;
        report.first_ns = nanos(self.first.unwrap_or(wall));
        Ok(report)
    }
}

/// Reports to the parent that the sender may begin.
pub(crate) fn print_ready() -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{READY}")?;
    Ok(out.flush()?)
}

/// Reports the measurement, and waits until the parent has finished its own.
pub(crate) fn print_line(measured: &impl Serialize) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(measured)?)?;
    out.flush()?;
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())?;
    Ok(())
}
