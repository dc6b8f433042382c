//! The proof that a session lives and listens to what it should.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::action::{Action, Incident};
use super::commands::Purpose;
use super::echo::Echo;
use super::link::{Link, Owed};
use super::proof::{self, Expected, Question};
use super::restore::is_passing;
use super::{Heartbeat, Sink, Supervisor};
use crate::session::{Answer, Rows, Session};
use crate::{Error, ErrorKind};

/// Most bytes of a proof: one row of a number and a digest.
const PROOF_BYTES_MAX: usize = 4 * 1024;

/// Longest wait for an answer, whatever else comes: our direction alone may be stuck in a proxy, which TCP's own
/// timeouts do not see. A server under a flood answers when it has caught up, and that may take its time.
pub(super) const LONGEST: Duration = Duration::from_secs(300);

/// Longest silence while a LISTEN or an UNLISTEN is not answered or a fence is awaited, whatever is said of proofs.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Who comes so much too late to a deadline did not run: nobody else is to blame for what was not read.
const LATE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Probe {
    heartbeat: Heartbeat,
    /// When the next proof is due.
    due: Option<Instant>,
    /// It was asked for.
    is_asked: bool,
    /// It waits for the commands in flight, and later ones wait for it.
    is_overdue: bool,
    /// What is told next depends on it.
    is_demanded: bool,
    was_late: bool,
}

impl Probe {
    pub(super) fn new(heartbeat: Heartbeat) -> Self {
        Self {
            heartbeat,
            due: None,
            is_asked: false,
            is_overdue: false,
            is_demanded: false,
            was_late: false,
        }
    }

    /// A session is live.
    pub(super) fn restart(&mut self, now: Instant) {
        self.stop();
        self.due = now.checked_add(self.heartbeat.every);
    }

    /// A proof is due at once, and must be given: whether the last answer was one is not known.
    pub(super) fn demand(&mut self, now: Instant) {
        self.due = Some(now);
        self.is_demanded = true;
    }

    /// There is no session to be proven.
    pub(super) fn stop(&mut self) {
        *self = Self::new(self.heartbeat);
    }

    /// Whether commands wait for it.
    pub(super) fn must_come_first(&self) -> bool {
        self.is_overdue || self.is_demanded
    }

    /// How long nothing may come while this is owed.
    fn patience(&self, owed: Owed) -> Duration {
        let patience = match owed.is_proof {
            true => self.heartbeat.deadline,
            // Somebody may wait for it.
            false => self.heartbeat.deadline.min(SILENCE_MAX),
        };
        patience.saturating_add(owed.quiet_time)
    }

    /// When an answer that is owed must have come.
    fn deadline(&self, owed: Owed) -> Option<Instant> {
        let patience = self.patience(owed);
        let longest = owed.since.checked_add(LONGEST.max(patience));
        let silence = owed.silent_since.checked_add(patience);
        longest.into_iter().chain(silence).min()
    }
}

impl Supervisor {
    /// When to look at the proof again.
    pub(super) fn probe_timeout(&self) -> Option<Instant> {
        let is_waiting = self.probe.is_asked || self.probe.is_overdue || !self.may_prove();
        let due = self.probe.due.filter(|_| !is_waiting);
        let owed = self.current.as_ref().and_then(Link::owes);
        due.into_iter().chain(owed.and_then(|owed| self.probe.deadline(owed))).min()
    }

    /// Whether a proof can be asked for, at once or as soon as the commands in flight are answered.
    fn may_prove(&self) -> bool {
        let Some(link) = self.current.as_ref().filter(|link| link.is_live()) else { return false };
        let is_free = link.in_flight.first_key_value().is_none_or(|(_, oldest)| !oldest.is_query());
        is_free && !self.handover.is_running() && !self.flow.is_stalled()
    }

    /// Time has passed: whether an answer that is owed is missing.
    pub(super) fn check_owed(&mut self, now: Instant, sink: &mut impl Sink) {
        if let Some(owed) = self.current.as_ref().and_then(Link::owes)
            && self.probe.deadline(owed).is_some_and(|deadline| deadline <= now)
        {
            return self.miss_answer(now, owed, sink);
        }
        if let Some(deadline) = self.echo_deadline().filter(|deadline| *deadline <= now)
            && !self.forgives(now, deadline)
        {
            self.miss_echo(now, sink);
        }
    }

    /// A proof was given.
    pub(super) fn restart_probe(&mut self, now: Instant) {
        self.probe.restart(now);
    }

    /// Whether this task has come so late to a deadline that it did not run: once in a while that is forgiven, and all
    /// of the time is given again. What is waited for may have been there for long.
    fn forgives(&mut self, now: Instant, deadline: Instant) -> bool {
        let is_late = now.saturating_duration_since(deadline) >= LATE && !self.probe.was_late;
        if is_late {
            self.probe.was_late = true;
            if let Some(link) = &mut self.current {
                link.owes_from(now);
            }
        }
        is_late
    }

    /// Asks for a proof if one is due and the session has nothing else to do.
    pub(super) fn prove(&mut self, now: Instant, sink: &mut impl Sink) {
        let is_due = self.probe.due.is_some_and(|due| due <= now);
        if !is_due || self.probe.is_asked || !self.may_prove() {
            return;
        }
        let is_idle = self.current.as_ref().is_some_and(|link| link.in_flight.is_empty());
        self.probe.is_overdue = !is_idle;
        if is_idle && let Err(error) = self.send_proof(now, None) {
            self.lose(now, error, sink);
        }
    }

    /// Asks the current session for a proof; `more` is a channel whose LISTEN is on its way.
    pub(super) fn send_proof(&mut self, now: Instant, more: Option<&str>) -> Result<(), Error> {
        let Some(link) = &mut self.current else { return Ok(()) };
        match link.private.clone() {
            None => self.ask_for_channels(now, more)?,
            Some(private) => {
                let echo = Echo::new(now, self.nonces.hex());
                link.start(now, Purpose::Sign, |session| {
                    session.notify(now, &private, echo.nonce())
                })?;
                link.echo = Some(echo);
            }
        }
        self.figures.proofs = self.figures.proofs.saturating_add(1);
        (self.probe.is_asked, self.probe.is_overdue) = (true, false);
        Ok(())
    }

    fn ask_for_channels(&mut self, now: Instant, more: Option<&str>) -> Result<(), Error> {
        let Some(link) = &mut self.current else { return Ok(()) };
        let confirmed = link.session().into_iter().flat_map(Session::channels);
        let expected = match more {
            None => Expected::of(confirmed),
            Some(_) => Expected::of(confirmed.chain(more).collect::<BTreeSet<_>>().into_iter()),
        };
        let question = link.question;
        let purpose = Purpose::Proof { question, expected: Some(expected) };
        let sql = question.sql();
        link.start(now, purpose, |session| {
            let id = session.simple_query(now, sql)?;
            session.limit_answer(id, PROOF_BYTES_MAX);
            session.limit_rows(id, 1);
            Ok(id)
        })
    }

    fn miss_answer(&mut self, now: Instant, owed: Owed, sink: &mut impl Sink) {
        let Some(deadline) = self.probe.deadline(owed) else { return };
        if self.forgives(now, deadline) {
            return;
        }
        let message = match now.saturating_duration_since(owed.since) {
            long if long >= LONGEST => format!("the server did not answer within {long:.0?}"),
            _ => format!(
                "nothing came from the server for {:?} while it owed an answer",
                self.probe.patience(owed)
            ),
        };
        let error = Error::new(ErrorKind::Timeout, message)
            .with_hint("the connection is dead without an end, or the server or a proxy is stuck");
        self.lose(now, error, sink);
    }

    /// The answer to a proof.
    pub(super) fn proof_answered(
        &mut self,
        now: Instant,
        question: Question,
        expected: Option<Expected>,
        result: Answer,
        sink: &mut impl Sink,
    ) {
        let is_demanded = self.probe.is_demanded;
        self.probe.restart(now);
        match (expected, result) {
            (Some(expected), Ok(rows)) => self.check_proof(now, question, &expected, &rows, sink),
            (None, Ok(_)) => {}
            // It is no answer of a PostgreSQL server.
            (_, Err(error)) if error.db_error().is_none() => {
                let message = "the session does not answer as a PostgreSQL server does";
                self.lose(now, Error::caused(ErrorKind::Pooler, message, error), sink);
            }
            (_, Err(error)) => self.proof_refused(now, question, error, is_demanded, sink),
        }
    }

    /// Cancelled or refused: that proves at least that the server is there.
    fn proof_refused(
        &mut self,
        now: Instant,
        question: Question,
        error: Error,
        is_demanded: bool,
        sink: &mut impl Sink,
    ) {
        let easier = question.easier().filter(|_| !is_passing(&error));
        if easier.is_none() && is_demanded {
            // Or it is the answer to what was asked before.
            return self.lose(now, error, sink);
        }
        self.actions.push_back(Action::Tell(Incident::ProofRefused { error: error.clone() }));
        let Some(easier) = easier else {
            if let Some(draining) = &mut self.draining {
                draining.refusal = Some(error);
            }
            // It is no reason against the new session.
            return self.old_is_proven(now, sink);
        };
        if let Some(link) = self.current.as_mut().filter(|link| link.question == question) {
            link.question = easier;
        }
        let private = self.handover.private_channel().filter(|_| self.next.is_some());
        if let Some(private) = private.map(str::to_owned) {
            if let Err(error) = self.send_proof(now, Some(&private)) {
                self.lose(now, error, sink);
            }
        } else if is_demanded {
            self.probe.demand(now);
        } else {
            self.probe.due = Some(now);
        }
    }

    fn check_proof(
        &mut self,
        now: Instant,
        question: Question,
        expected: &Expected,
        found: &[Rows],
        sink: &mut impl Sink,
    ) {
        if expected.is_met(question, found) {
            return self.old_is_proven(now, sink);
        }
        let count = expected.count;
        let found = proof::number(found);
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
