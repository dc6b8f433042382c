//! The calls of the simulation, as a naive list: what each one sent, and how it ended.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio::sync::oneshot::{Receiver, error::TryRecvError};

use super::super::server::{Executed, INVALID, Pair};
use super::TIMEOUT;
use crate::error::{Error, ErrorKind};
use crate::notifier::outcome;
use crate::notifier::stats::NotifierStats;

/// A call and its end.
#[derive(Debug)]
pub(super) struct ModelCall {
    pub(super) pairs: Vec<Pair>,
    pub(super) is_many: bool,
    pub(super) called_at: Instant,
    /// `None` after it was cancelled.
    pub(super) reply: Option<Receiver<Result<(), Error>>>,
    pub(super) end: Option<Result<(), Error>>,
}

/// All calls, and what the server did.
#[derive(Debug, Default)]
pub(super) struct Calls {
    pub(super) all: Vec<ModelCall>,
    pub(super) executed: Vec<Executed>,
    /// Pairs of transactions that a server has received completely, with their number.
    pub(super) received: HashMap<Pair, u64>,
}

impl Calls {
    pub(super) fn received(&mut self, transactions: Vec<Vec<Pair>>) {
        for pair in transactions.into_iter().flatten() {
            *self.received.entry(pair).or_default() += 1;
        }
    }

    /// Returns the number of calls that have not ended.
    pub(super) fn unanswered(&self) -> usize {
        self.all.iter().filter(|call| call.reply.is_some() && call.end.is_none()).count()
    }

    /// Takes the answers that have arrived.
    pub(super) fn take_answers(&mut self, now: Instant, limit: Duration) -> Result<(), String> {
        for (number, call) in self.all.iter_mut().enumerate() {
            let Some(reply) = call.reply.as_mut().filter(|_| call.end.is_none()) else { continue };
            match reply.try_recv() {
                Ok(end) => call.end = Some(end),
                Err(TryRecvError::Closed) => return Err(format!("call {number} was dropped")),
                Err(TryRecvError::Empty) if now > call.called_at + limit => {
                    return Err(format!("call {number} takes {:?}", now - call.called_at));
                }
                Err(TryRecvError::Empty) => {}
            }
        }
        Ok(())
    }

    /// Checks every end against what the server did.
    pub(super) fn check(
        &self,
        stats: &NotifierStats,
        limits: (usize, usize),
    ) -> Result<(), String> {
        let mut delivered: HashMap<&Pair, u64> = HashMap::new();
        for pair in self.executed.iter().flat_map(Executed::delivered) {
            *delivered.entry(pair).or_default() += 1;
        }
        let mut allowed: HashMap<&Pair, (u64, u64)> = HashMap::new();
        for (number, call) in self.all.iter().enumerate() {
            let (min, max) =
                self.check_call(call).map_err(|why| format!("call {number} {why}: {call:?}"))?;
            let distinct: HashSet<&Pair> = call.pairs.iter().collect();
            for pair in distinct {
                let sums = allowed.entry(pair).or_default();
                *sums = (sums.0 + min, sums.1 + max);
            }
        }
        for (pair, count) in &delivered {
            let (min, max) = allowed.get(pair).copied().unwrap_or_default();
            if *count < min || *count > max {
                return Err(format!(
                    "{pair:?} was delivered {count} times, expected {min} to {max}"
                ));
            }
        }
        if let Some((pair, (min, _))) =
            allowed.iter().find(|(pair, (min, _))| *min > 0 && !delivered.contains_key(**pair))
        {
            return Err(format!("{pair:?} was never delivered, expected {min} times"));
        }
        self.check_transactions(limits)?;
        self.check_order()?;
        self.check_stats(stats)
    }

    /// Returns how often the notifications of a call may have been delivered.
    fn check_call(&self, call: &ModelCall) -> Result<(u64, u64), String> {
        let is_invalid = call.pairs.iter().any(|(_, payload)| payload.starts_with(INVALID));
        let was_received = call.pairs.iter().any(|pair| self.received.contains_key(pair));
        let Some(end) = &call.end else {
            return match call.reply {
                Some(_) => Err("has no end".to_owned()),
                None => Ok((0, u64::from(!is_invalid))),
            };
        };
        match end {
            Ok(()) if is_invalid => Err("is invalid and committed".to_owned()),
            Ok(()) => Ok((1, 1)),
            Err(error) => match (error.kind(), error.sqlstate()) {
                (ErrorKind::InDoubt, _) if !was_received && !is_timeout(error) => {
                    Err("is in doubt, and was never sent".to_owned())
                }
                (ErrorKind::InDoubt, _) => Ok((0, 1)),
                (ErrorKind::Server, Some("22P05")) if !is_invalid => {
                    Err("is refused for another one".to_owned())
                }
                (ErrorKind::Server, Some("54000")) if !error.is_transient() => {
                    Err("has a full queue that is not transient".to_owned())
                }
                (ErrorKind::Server, Some("22P05" | "54000")) => Ok((0, 0)),
                (ErrorKind::Timeout | ErrorKind::Closed, None) => Ok((0, 0)),
                _ => Err("has an unexpected error".to_owned()),
            },
        }
    }

    /// Checks the limits of groups, that none has equal pairs, and that each call of many is a transaction of its own.
    fn check_transactions(&self, (calls, bytes): (usize, usize)) -> Result<(), String> {
        let many: HashSet<&[Pair]> =
            self.all.iter().filter(|call| call.is_many).map(|call| &*call.pairs).collect();
        let in_many: HashSet<&Pair> = many.iter().copied().flatten().collect();
        for one in &self.executed {
            if many.contains(&*one.pairs) {
                continue;
            }
            if one.pairs.iter().any(|pair| in_many.contains(pair)) {
                return Err(format!("a call of many was cut or merged: {one:?}"));
            }
            let distinct: HashSet<&Pair> = one.pairs.iter().collect();
            if distinct.len() != one.pairs.len() {
                return Err(format!("a group has equal pairs: {one:?}"));
            }
            let sum: usize = one.pairs.iter().map(|(c, p)| c.len() + p.len()).sum();
            if one.pairs.len() > calls || (sum > bytes && one.pairs.len() > 1) {
                return Err(format!("a group is too large: {one:?}"));
            }
        }
        Ok(())
    }

    /// Checks that each session has executed the calls in their order, except for those that were part of a refused group.
    fn check_order(&self) -> Result<(), String> {
        let refused = self.executed.iter().filter(|one| !one.is_committed);
        let refused: HashSet<&Pair> = refused.flat_map(|one| &one.pairs).collect();
        let mut numbers: HashMap<&Pair, Vec<usize>> = HashMap::new();
        for (number, call) in self.all.iter().enumerate() {
            for pair in &call.pairs {
                numbers.entry(pair).or_default().push(number);
            }
        }
        let mut last: HashMap<u64, usize> = HashMap::new();
        for one in &self.executed {
            for pair in one.pairs.iter().filter(|pair| !refused.contains(pair)) {
                // It is unknown which of two equal calls it was.
                let Some([number]) = numbers.get(pair).map(Vec::as_slice) else { continue };
                let last = last.entry(one.session).or_default();
                if number < last {
                    return Err(format!("call {number} was executed after call {last}"));
                }
                *last = *number;
            }
        }
        Ok(())
    }

    fn check_stats(&self, stats: &NotifierStats) -> Result<(), String> {
        let outcomes = stats.committed + stats.refused + stats.in_doubt + stats.not_sent;
        let ended = |what: fn(&Result<(), Error>) -> bool| {
            self.all.iter().filter_map(|call| call.end.as_ref()).filter(|end| what(end)).count()
                as u64
        };
        let committed = ended(|end| end.is_ok());
        let in_doubt =
            ended(|end| end.as_ref().is_err_and(|error| error.kind() == ErrorKind::InDoubt));
        if stats.calls != self.all.len() as u64
            || stats.calls != outcomes + stats.unanswered
            || committed > stats.committed
            || in_doubt > stats.in_doubt
        {
            return Err(format!("{committed} committed, {in_doubt} in doubt, but {stats:?}"));
        }
        Ok(())
    }
}

/// Returns true if the call is in doubt because of its deadline: then it may not have been written.
fn is_timeout(error: &Error) -> bool {
    format!("{error:#}") == format!("{:#}", outcome::unanswered(2 * TIMEOUT))
}
