//! A heat: several contestants, one load, several rounds.

use std::path::PathBuf;

use serde::Serialize;

use crate::child::Child;
use crate::client::decode::BUFFER_BYTES;
use crate::contestant::Contestant;
use crate::cores::Cores;
use crate::outcome::{Failure, Outcome};
use crate::replay::Sent;
use crate::server::Server;
use crate::shape::{Block, Shape};
use crate::source::{Expected, Origin, Postgres, Source, options};
use crate::tally::Report;
use crate::tls::Identity;

/// The share of a core from which on the sender counts as the bottleneck.
const SENDER_BOUND: f64 = 0.9;

/// The bytes of a sample over TLS.
const SEALED_BYTES: u64 = 1 << 28;

/// The configuration of a heat.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Heat {
    pub(crate) origin: Origin,
    pub(crate) shape: Shape,
    /// The bytes of one write of the replay server.
    pub(crate) write_bytes: usize,
    /// 0: not pinned. 1: client and server share a core. 2: one core each.
    pub(crate) cores: usize,
    pub(crate) rounds: usize,
    pub(crate) contestants: Vec<Contestant>,
    /// The older build that runs `pgbell-recv-before`.
    pub(crate) before: Option<PathBuf>,
    /// The notifications of a sample. `None`: the contestant's own number.
    pub(crate) count: Option<u64>,
}

/// One run of one contestant.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    pub(crate) contestant: Contestant,
    pub(crate) round: usize,
    pub(crate) report: Option<Report>,
    pub(crate) sent: Option<Sent>,
    /// The reason if the run does not count.
    pub(crate) void: Option<String>,
}

impl Heat {
    pub(crate) fn count(&self, contestant: Contestant) -> u64 {
        let own = contestant.count(self.shape);
        match (self.count, self.origin) {
            (Some(count), _) => count,
            // One transaction sends them all.
            (None, Origin::Postgres) => own.min(1_000_000),
            // All bytes are encrypted in advance.
            (None, Origin::Tls) => own.min(SEALED_BYTES / self.shape.size as u64),
            (None, _) => own,
        }
    }

    /// Runs all rounds: forwards, backwards, forwards and so on.
    pub(crate) fn run(&self, allowed: &[usize], server: &mut Server) -> Vec<Sample> {
        let cores = Cores::new(allowed, self.cores);
        let mut source = None;
        let mut samples = Vec::new();
        for round in 0..self.rounds {
            let mut order = self.contestants.clone();
            if round % 2 == 1 {
                order.reverse();
            }
            for contestant in order {
                let ran = self.run_one(contestant, &cores, &mut source, server);
                // After any error the next contestant gets a new sender.
                if ran.is_err() {
                    source = None;
                }
                let void = ran.as_ref().err().map(ToString::to_string);
                let (report, sent) = ran.ok().unzip();
                samples.push(Sample { contestant, round, report, sent, void });
            }
        }
        samples
    }

    fn run_one(
        &self,
        contestant: Contestant,
        cores: &Cores,
        source: &mut Option<Source>,
        server: &mut Server,
    ) -> Outcome<(Report, Sent)> {
        let count = self.count(contestant);
        let source = match source {
            Some(source) => source,
            none => none.insert(self.source(cores, server)?),
        };
        source.prepare(count)?;
        let (program, name) = match (contestant, &self.before) {
            (Contestant::PgbellRecvBefore, None) => return Err("--before is missing".into()),
            (Contestant::PgbellRecvBefore, Some(before)) => {
                (before.clone(), Contestant::PgbellRecv.name())
            }
            _ => (std::env::current_exe()?, contestant.name()),
        };
        let mut arguments = vec!["child".to_owned(), name];
        arguments.extend(source.address()?);
        arguments.extend(["--count".to_owned(), count.to_string()]);
        arguments.extend(options(self.shape, cores.client(contestant.threads())));
        let mut child = Child::start_program(&program, &arguments)?.watched();
        if source.is_remote() {
            child.wait_until_ready()?;
            source.go(count)?;
        }
        let report: Report = child.value()?;
        let sent = source.sent()?;
        child.finish()?;
        self.check(count, &report, &sent)?;
        Ok((report, sent))
    }

    fn source(&self, cores: &Cores, server: &mut Server) -> Outcome<Source> {
        match self.origin {
            Origin::Replay => Source::replay(self.shape, self.write_bytes, &cores.server, None),
            Origin::Tls => {
                let identity = Some(Identity::new()?);
                Source::replay(self.shape, self.write_bytes, &cores.server, identity)
            }
            Origin::Postgres => {
                let cluster = server.cluster(&cores.server)?;
                Ok(Source::Postgres(Box::new(Postgres::new(cluster, self.shape)?)))
            }
            Origin::Memory => {
                let block = Block::new(self.shape.checked()?, BUFFER_BYTES)?;
                Ok(Source::Memory(Expected::new(self.shape, Some(block))))
            }
        }
    }

    /// Checks that the client received what was sent.
    fn check(&self, count: u64, report: &Report, sent: &Sent) -> Outcome<()> {
        let wrong = |what: &str, received: u64, sent: u64| {
            Failure::from(format!("{what}: {received} received, {sent} sent"))
        };
        if sent.count != count {
            return Err(wrong("requested count", count, sent.count));
        }
        if report.notifications != sent.count {
            return Err(wrong("count", report.notifications, sent.count));
        }
        // A contestant that does not parse counts the bytes of the wire.
        let bytes = match report.checksum {
            Some(_) => sent.bytes,
            None => sent.count * self.shape.size as u64,
        };
        if report.bytes != bytes {
            return Err(wrong("bytes", report.bytes, bytes));
        }
        match report.checksum {
            Some(checksum) if checksum != sent.checksum => {
                Err(wrong("checksum", checksum, sent.checksum))
            }
            _ => Ok(()),
        }
    }

    /// Returns the time that counts. With PostgreSQL it begins at the first notification: before it the transaction of
    /// the sender runs. Over TLS too: before it the server encrypts.
    pub(crate) fn wall_ns(&self, report: &Report) -> u64 {
        match self.origin {
            Origin::Postgres | Origin::Tls => report.wall_ns.saturating_sub(report.first_ns),
            Origin::Replay | Origin::Memory => report.wall_ns,
        }
    }

    /// Returns whether the sender was the bottleneck.
    pub(crate) fn is_sender_bound(&self, report: &Report, sent: &Sent) -> bool {
        let wall = match sent.wall_ns {
            0 => self.wall_ns(report),
            wall => wall,
        };
        sent.cpu_ns as f64 >= SENDER_BOUND * wall as f64 && sent.cpu_ns > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut Report);

    /// A report and the matching sender's data, of ten notifications of 51 bytes.
    fn agreed() -> (Heat, Report, Sent) {
        let heat = Heat {
            origin: Origin::Replay,
            shape: Shape::MAIN,
            write_bytes: 8_192,
            cores: 2,
            rounds: 1,
            contestants: vec![Contestant::Libpq],
            before: None,
            count: Some(10),
        };
        let digest = Shape::MAIN.digest(10);
        let sent = Sent {
            count: digest.count,
            bytes: digest.bytes,
            checksum: digest.checksum(),
            wall_ns: 0,
            cpu_ns: 0,
        };
        let wall = std::time::Duration::from_micros(1);
        let report = Report::of(&digest, wall, crate::usage::Usage::default()).unwrap();
        (heat, report, sent)
    }

    #[test]
    fn a_run_counts_only_when_count_bytes_and_checksum_are_those_of_the_sender() {
        let (heat, report, sent) = agreed();
        heat.check(10, &report, &sent).unwrap();
        let wrong: [(u64, Change); 5] = [
            (11, |_| {}),
            (10, |report| report.notifications -= 1),
            (10, |report| report.notifications += 1),
            (10, |report| report.bytes += 1),
            (10, |report| report.checksum = report.checksum.map(|sum| sum ^ 1)),
        ];
        for (count, change) in wrong {
            let mut report = report.clone();
            change(&mut report);
            assert!(heat.check(count, &report, &sent).is_err(), "{report:?}");
        }
    }

    #[test]
    fn a_contestant_that_does_not_parse_counts_the_bytes_of_the_wire() {
        let (heat, report, sent) = agreed();
        let raw = Report { checksum: None, bytes: 510, ..report };
        heat.check(10, &raw, &sent).unwrap();
        assert!(heat.check(10, &Report { bytes: 509, ..raw }, &sent).is_err());
    }
}
