//! [`Task`]: carries wake-ups, time and rows between the machine, the session and the store.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use tokio::time::sleep_until;

use super::draft::{Changes, Draft, LeftOut};
use super::machine::{Machine, Read, Step, after};
use super::race::unless;
use super::reader::Reader;
use super::refusal::is_of_keys;
use super::rules::Rules;
use super::shared::{Phase, Requests, Shared, Waiter};
use super::telemetry;
use crate::error::{Error, contain};
use crate::net;
use crate::wakeups::{Wake, WakeWorker};

pub(super) struct Task<V> {
    shared: Arc<Shared<V>>,
    rules: Rules<V>,
    reader: Reader,
    machine: Machine,
    polls: Polls,
    /// Calls that the next read answers.
    waiters: Vec<Waiter>,
    /// Calls that only the next load answers.
    load_waiters: Vec<Waiter>,
}

/// What wakes a mirror without a call of the user.
#[derive(Debug)]
pub(super) struct Polls {
    pub(super) worker: WakeWorker,
    pub(super) interval: Duration,
    /// When all rows are read next, after the end of the wake-ups of the user.
    pub(super) next: Option<Instant>,
}

/// What a task was woken by.
enum Woken {
    Wake(Result<Wake, Error>),
    Requested,
    Time,
}

/// How a read has ended.
enum Failure {
    /// One of the keys is not a value of its type.
    OfKeys(Error),
    Other(Error),
}

impl<V: Send + Sync + 'static> Task<V> {
    pub(super) fn new(
        shared: Arc<Shared<V>>,
        rules: Rules<V>,
        reader: Reader,
        machine: Machine,
        polls: Polls,
    ) -> Self {
        let (waiters, load_waiters) = (Vec::new(), Vec::new());
        Self { shared, rules, reader, machine, polls, waiters, load_waiters }
    }

    /// Loads all rows, of which each must be decoded.
    pub(super) async fn first_load(&mut self) -> Result<(), Error> {
        let begun = Instant::now();
        // What a refresh needs and is not there is an error now, and not at the first notification.
        self.reader.refresh(&BTreeSet::new()).await?;
        self.load(true).await?;
        telemetry::loaded(&self.shared.name, self.shared.store.rows(), begun.elapsed());
        Ok(())
    }

    /// Reads until the mirror is closed.
    pub(super) async fn run(mut self) {
        let end = End(self.shared.clone());
        let shared = self.shared.clone();
        unless(shared.closing(), self.work()).await;
        self.reader.close().await;
        if let Some(wakeups) = shared.take_wakeups() {
            wakeups.close().await;
        }
        telemetry::closed(&shared.name);
        drop(end);
    }

    async fn work(&mut self) {
        loop {
            self.handle_requests();
            self.handle_wakes().await;
            let step = self.machine.next(net::now());
            self.report_staleness(matches!(step, Step::Read(_)) || !self.machine.is_idle());
            match step {
                Step::Read(read) => self.read(read).await,
                Step::Wait(until) => self.wait(until).await,
            }
        }
    }

    fn handle_requests(&mut self) {
        let Requests { keys, is_all, waiters } = self.shared.take_requests();
        if is_all {
            self.machine.handle_reload(net::now());
        } else if !keys.is_empty() {
            self.machine.handle_keys(keys, net::now());
        } else {
            // They ask for no key.
            answer(waiters, &Ok(()));
            return;
        }
        self.waiters.extend(waiters);
    }

    fn report_staleness(&self, is_stale: bool) {
        let mut facts = self.shared.facts();
        match facts.stale_since {
            None if is_stale => facts.stale_since = Some(SystemTime::now()),
            Some(_) if !is_stale => facts.stale_since = None,
            _ => {}
        }
    }

    // ---- waiting ----

    /// Takes what has happened, without waiting: while calls of the user follow each other without a pause, [`wait`](Self::wait) is not reached.
    async fn handle_wakes(&mut self) {
        let is_due = self.polls.next.is_some_and(|next| next <= net::now());
        if is_due {
            self.handle_woken(Woken::Time);
        } else if self.polls.next.is_none() {
            let woken = {
                let mut wake = pin!(self.polls.worker.wake());
                poll_fn(|cx| {
                    Poll::Ready(match wake.as_mut().poll(cx) {
                        Poll::Ready(wake) => Woken::Wake(wake),
                        Poll::Pending => Woken::Requested,
                    })
                })
                .await
            };
            self.handle_woken(woken);
        }
    }

    async fn wait(&mut self, until: Option<Instant>) {
        let is_alone = self.polls.next.is_some();
        let until = until.into_iter().chain(self.polls.next).min();
        let woken = {
            let mut wake = pin!(self.polls.worker.wake());
            let mut requested = pin!(self.shared.requested.notified());
            let mut time = pin!(async {
                match until {
                    Some(until) => sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            });
            poll_fn(|cx| {
                if requested.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Woken::Requested);
                }
                if !is_alone && let Poll::Ready(wake) = wake.as_mut().poll(cx) {
                    return Poll::Ready(Woken::Wake(wake));
                }
                time.as_mut().poll(cx).map(|()| Woken::Time)
            })
            .await
        };
        self.handle_woken(woken);
    }

    fn handle_woken(&mut self, woken: Woken) {
        let now = net::now();
        match woken {
            Woken::Wake(Ok(wake)) => self.machine.handle_wake(&wake, now),
            // The wake-ups of the user are closed.
            Woken::Wake(Err(_)) => {
                self.machine.handle_poll(now);
                self.polls.next = Some(after(now, self.polls.interval));
            }
            Woken::Time if self.polls.next.is_some_and(|next| next <= now) => {
                self.machine.handle_poll(now);
                self.polls.next = Some(after(now, self.polls.interval));
            }
            Woken::Requested | Woken::Time => {}
        }
    }

    // ---- reading ----

    async fn read(&mut self, read: Read) {
        let mut waiters = mem::take(&mut self.waiters);
        let result = match read {
            Read::Keys(keys) => self.refresh(&keys).await,
            Read::All { reopens } => {
                waiters.append(&mut self.load_waiters);
                if reopens {
                    self.reader.reopen();
                }
                self.load(false).await.map_err(Failure::Other)
            }
        };
        match result {
            Ok(()) => {
                self.machine.handle_done();
                answer(waiters, &Ok(()));
            }
            Err(Failure::OfKeys(error)) => {
                telemetry::invalid_keys(&self.shared.name, &error);
                self.shared.set_last_error(&error);
                self.shared.facts().stats.invalid_keys += 1;
                self.machine.handle_invalid_key(net::now());
                self.load_waiters.extend(waiters);
            }
            Err(Failure::Other(error)) => {
                let delay = self.machine.handle_failure(net::now());
                telemetry::failed(&self.shared.name, &error, delay);
                self.shared.set_last_error(&error);
                self.shared.facts().stats.failures += 1;
                answer(waiters, &Err(error));
            }
        }
    }

    /// Reads all rows.
    async fn load(&mut self, is_first: bool) -> Result<(), Error> {
        let (begun, started) = (SystemTime::now(), Instant::now());
        let store = &self.shared.store;
        let draft = loop {
            let mut draft = Draft::new(&self.rules, store);
            let add = |rows: &_| {
                let bytes = draft.add(rows)?;
                match draft.error().filter(|_| is_first) {
                    Some(error) => Err(error.clone()),
                    None => Ok(bytes),
                }
            };
            match self.reader.load(add).await {
                Ok(()) => break draft,
                Err(_) if self.reader.fetches_less() => {}
                Err(error) => return Err(error),
            }
        };
        let (rows, changes, left_out) = draft.replace();
        telemetry::reloaded(&self.shared.name, rows, changes, started.elapsed());
        {
            let mut facts = self.shared.facts();
            (facts.loaded_at, facts.read_at) = (begun, begun);
            facts.stats.loads += 1;
        }
        self.handle_read(rows, changes, &left_out);
        Ok(())
    }

    /// Reads the rows of some keys.
    async fn refresh(&mut self, keys: &BTreeSet<String>) -> Result<(), Failure> {
        let begun = SystemTime::now();
        let failure = |error| match is_of_keys(&error) {
            true => Failure::OfKeys(error),
            false => Failure::Other(error),
        };
        let answers = self.reader.refresh(keys).await.map_err(failure)?;
        let store = &self.shared.store;
        let changes = Changes::new(&self.rules, store, &answers).map_err(Failure::Other)?;
        let (mut vanished, unknown) = changes.missing(store, keys);
        if !unknown.is_empty() {
            let canonical = self.reader.canonical(&unknown).await.map_err(failure)?;
            let canonical: BTreeSet<String> = canonical.into_iter().collect();
            vanished.extend(changes.missing(store, &canonical).0);
        }
        let rows = changes.rows;
        let (changed, left_out) = changes.show(store, &vanished);
        {
            let mut facts = self.shared.facts();
            facts.read_at = begun;
            facts.stats.refreshes += 1;
            facts.stats.keys += count(keys.len());
        }
        self.handle_read(rows, changed, &left_out);
        Ok(())
    }

    fn handle_read(&self, rows: usize, changes: usize, left_out: &LeftOut) {
        {
            let stats = &mut self.shared.facts().stats;
            stats.rows += count(rows);
            stats.changes += count(changes);
            stats.undecodable += left_out.count;
        }
        if let Some(error) = &left_out.error {
            telemetry::undecodable(&self.shared.name, error, left_out.count);
            self.shared.set_last_error(error);
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn answer(waiters: impl IntoIterator<Item = Waiter>, result: &Result<(), Error>) {
    for waiter in waiters {
        let _ = contain(|| waiter.send(result.clone()));
    }
}

/// Reports the end of a task, also if its runtime drops it.
struct End<V>(Arc<Shared<V>>);

impl<V> Drop for End<V> {
    fn drop(&mut self) {
        let _ = contain(|| self.0.phase.send_replace(Phase::Ended));
        drop(self.0.take_requests());
        drop(self.0.take_wakeups());
    }
}
