//! The proof that a session lives and listens to what it should.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::{Duration, Instant};

use md5::{Digest, Md5};

use super::commands::Purpose;
use super::{Heartbeat, Sink, Supervisor};
use crate::session::{Rows, Session};
use crate::{Error, ErrorKind};

/// Asks what the session listens to: a count and a digest, however many channels there are. Sorted and hashed
/// in UTF-8, whatever the server's encoding is. N140.
pub const PROOF_SQL: &str = "SELECT pg_catalog.count(*), pg_catalog.md5(pg_catalog.convert_to(\
    pg_catalog.string_agg(c, ',' ORDER BY pg_catalog.convert_to(c, 'UTF8')), 'UTF8')) \
    FROM pg_catalog.pg_listening_channels() AS c";

/// Longest wait for a proof, whatever else comes: our direction alone may be cut, or stuck in a proxy. An
/// answer stands behind what the kernels hold, and that is read in seconds.
const PROOF_MAX: Duration = Duration::from_secs(60);

/// Who comes so much too late to a deadline did not run: nobody else is to blame for what was not read.
const LATE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Probe {
    heartbeat: Heartbeat,
    /// When the last bytes came.
    alive_at: Instant,
    /// When the next proof is due.
    due: Option<Instant>,
    /// Since when the answer is waited for.
    sent_at: Option<Instant>,
    was_late: bool,
}

impl Probe {
    pub(super) fn new(now: Instant, heartbeat: Heartbeat) -> Self {
        Self { heartbeat, alive_at: now, due: None, sent_at: None, was_late: false }
    }

    /// Bytes came.
    pub(super) fn alive(&mut self, now: Instant) {
        self.alive_at = now;
    }

    /// The socket is read again: nothing could come before.
    pub(super) fn resume(&mut self, now: Instant) {
        self.alive_at = now;
        if let Some(sent_at) = &mut self.sent_at {
            *sent_at = now;
        }
    }

    /// The server owes an answer from here on: that it comes proves that the session lives.
    pub(super) fn expect(&mut self, now: Instant) {
        // What was silent before was not asked.
        self.alive_at = now;
        self.sent_at = Some(now);
    }

    /// A session is live.
    pub(super) fn restart(&mut self, now: Instant) {
        self.stop();
        self.alive_at = now;
        self.due = now.checked_add(self.heartbeat.every);
    }

    /// There is no session to be proven.
    pub(super) fn stop(&mut self) {
        (self.due, self.sent_at, self.was_late) = (None, None, false);
    }

    fn deadline(&self) -> Option<Instant> {
        let longest = self.sent_at?.checked_add(PROOF_MAX.max(self.heartbeat.deadline));
        let silence = self.alive_at.checked_add(self.heartbeat.deadline);
        longest.into_iter().chain(silence).min()
    }
}

impl Supervisor {
    /// When to look at the proof again.
    pub(super) fn probe_timeout(&self) -> Option<Instant> {
        // While commands are in flight theirs are the deadlines.
        self.probe.deadline().or(self.probe.due.filter(|_| self.may_prove()))
    }

    fn may_prove(&self) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|link| link.is_live() && link.in_flight.is_empty())
            && !self.handover.is_running()
            && !self.flow.is_stalled()
    }

    /// Time has passed, or the session has nothing more to do.
    pub(super) fn prove(&mut self, now: Instant, sink: &mut impl Sink) {
        if self.probe.deadline().is_some_and(|deadline| deadline <= now) {
            return self.miss_proof(now, sink);
        }
        let is_due = self.probe.due.is_some_and(|due| due <= now);
        if is_due
            && self.probe.sent_at.is_none()
            && self.may_prove()
            && let Err(error) = self.send_proof(now, None)
        {
            self.lose(now, error, sink);
        }
    }

    /// Asks the current session for a proof; `more` is a channel whose LISTEN is on its way.
    pub(super) fn send_proof(&mut self, now: Instant, more: Option<&str>) -> Result<(), Error> {
        let Some(link) = &mut self.current else { return Ok(()) };
        let confirmed = link.session().into_iter().flat_map(Session::channels);
        let expected = match more {
            None => proof(confirmed),
            Some(_) => proof(confirmed.chain(more).collect::<BTreeSet<_>>().into_iter()),
        };
        let send = |session: &mut Session| session.simple_query(now, PROOF_SQL);
        link.start(Purpose::Proof { expected }, send)?;
        self.figures.proofs = self.figures.proofs.saturating_add(1);
        self.probe.expect(now);
        Ok(())
    }

    fn miss_proof(&mut self, now: Instant, sink: &mut impl Sink) {
        let Some(deadline) = self.probe.deadline() else { return };
        if now.saturating_duration_since(deadline) >= LATE && !self.probe.was_late {
            self.probe.was_late = true;
            // All of the time: the answer may have been there for long.
            self.probe.resume(now);
            return;
        }
        let message = match self.probe.sent_at {
            Some(sent_at) if now.saturating_duration_since(sent_at) >= PROOF_MAX => {
                format!("the server did not prove the subscription within {PROOF_MAX:?}")
            }
            _ => format!(
                "nothing came from the server for {:?} while it was to prove the subscription",
                self.probe.heartbeat.deadline
            ),
        };
        let error = Error::new(ErrorKind::Timeout, message)
            .with_hint("the connection is dead without an end, or the server or a proxy is stuck");
        self.lose(now, error, sink);
    }

    /// The answer to a proof.
    pub(super) fn check_proof(
        &mut self,
        now: Instant,
        expected: &(usize, String),
        found: &[Rows],
        sink: &mut impl Sink,
    ) {
        self.probe.restart(now);
        let (count, digest) = expected;
        let row = found.first().and_then(|rows| rows.get(0));
        let found = row.and_then(|row| row.get(0)?.parse::<usize>().ok());
        let same = row.is_some_and(|row| row.get(1).unwrap_or_default() == digest.as_str());
        if found == Some(*count) && same {
            return self.old_is_proven(now, sink);
        }
        let found = found.map_or_else(|| "an unknown number of".to_owned(), |n| n.to_string());
        let error = Error::new(
            ErrorKind::Pooler,
            format!("the session does not listen to its {count} channels: the server names {found}"),
        )
        .with_hint(
            "LISTEN, UNLISTEN or DISCARD were sent in a query, or a pooler that does not keep sessions did it: \
             use listen and unlisten, and connect to the server itself",
        );
        self.lose(now, error, sink);
    }
}

/// The answer to [`PROOF_SQL`] of a server that listens to these channels, sorted: how many there are, and the
/// digest of their names.
fn proof<'a>(channels: impl Iterator<Item = &'a str>) -> (usize, String) {
    let mut md5 = Md5::new();
    let mut count = 0;
    for channel in channels {
        if count > 0 {
            md5.update(b",");
        }
        md5.update(channel);
        count += 1;
    }
    let mut hex = String::new();
    if count > 0 {
        for byte in md5.finalize() {
            let _ = write!(hex, "{byte:02x}");
        }
    }
    // No channel: the server says NULL.
    (count, hex)
}
