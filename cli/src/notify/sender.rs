//! [`Sender`]: sends notifications, over lost sessions, and counts them.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use pgbell::{Error, ErrorKind, Notifier};
use tokio::time::{sleep, sleep_until, timeout};

use crate::console;
use crate::exit::{Exit, Failure};
use crate::numbers::{counted, grouped, per_second, rate, seconds};

/// The delay before an attempt after one that has failed without one of its own.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// The longest time for the end of the session.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// The largest number of calls that wait at the same time.
const CALLS_MAX: usize = 1_000;

pub(super) struct Sender {
    notifier: Notifier,
    /// How long it tries again.
    retry: Duration,
    resends: bool,
    pace: Option<Pace>,
    since: Instant,
    /// The number of committed notifications.
    pub(super) sent: u64,
    /// Those whose commit is not known.
    pub(super) in_doubt: u64,
    /// Those that are being sent. If the program ends now, they are in doubt.
    in_flight: u64,
    /// Since when nothing could be sent.
    failing_since: Option<Instant>,
}

/// An even pace.
struct Pace {
    interval: Duration,
    next: Instant,
}

impl Sender {
    pub(super) fn new(
        notifier: Notifier,
        retry: Duration,
        resends: bool,
        rate: Option<f64>,
    ) -> Self {
        let now = Instant::now();
        let pace =
            rate.map(|rate| Pace { interval: Duration::from_secs_f64(1.0 / rate), next: now });
        Self {
            notifier,
            retry,
            resends,
            pace,
            since: now,
            sent: 0,
            in_doubt: 0,
            in_flight: 0,
            failing_since: None,
        }
    }

    /// Sends all of them, those that are distinct in one transaction. With a pace, each when its time has come.
    pub(super) async fn send(
        &mut self,
        pairs: &[(String, String)],
        is_distinct: bool,
    ) -> Result<(), Failure> {
        let mut rest = pairs;
        while !rest.is_empty() {
            let due = self.due().await.clamp(1, rest.len());
            let (now, later) = rest.split_at(due);
            match is_distinct && self.pace.is_none() {
                true => self.send_together(now).await?,
                false => self.send_each(now).await?,
            }
            rest = later;
        }
        Ok(())
    }

    /// Waits until one may be sent. Returns how many may be.
    async fn due(&mut self) -> usize {
        let Some(pace) = &mut self.pace else { return CALLS_MAX };
        sleep_until(pace.next.into()).await;
        let now = Instant::now();
        let mut due = 0;
        while pace.next <= now && due < CALLS_MAX {
            pace.next += pace.interval;
            due += 1;
        }
        // After an outage the pace begins again: a burst would not be an even one.
        if pace.next + Duration::from_secs(1) < now {
            pace.next = now;
        }
        due
    }

    async fn send_together(&mut self, pairs: &[(String, String)]) -> Result<(), Failure> {
        let number = pairs.len() as u64;
        loop {
            self.in_flight = number;
            let texts = pairs.iter().map(|(channel, payload)| (channel, payload));
            let sent = self.notifier.notify_many(texts).await;
            self.in_flight = 0;
            let mut answers = Answers::default();
            answers.take(number, sent.map(drop), self.resends);
            if self.count(answers).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Sends each in a transaction of its own: the server delivers equal notifications of one transaction once.
    async fn send_each(&mut self, pairs: &[(String, String)]) -> Result<(), Failure> {
        let mut rest: Vec<&(String, String)> = pairs.iter().collect();
        while !rest.is_empty() {
            self.in_flight = rest.len() as u64;
            let calls =
                rest.iter().map(|(channel, payload)| self.notifier.notify(channel, payload));
            let found = all(calls.collect()).await;
            self.in_flight = 0;
            let mut answers = Answers::default();
            let mut is_again = |answer| answers.take(1, answer, self.resends);
            let again = rest.into_iter().zip(found);
            rest = again.filter_map(|(pair, answer)| is_again(answer).then_some(pair)).collect();
            self.count(answers).await?;
        }
        Ok(())
    }

    /// Counts the answers to calls that were made together. Returns the number of notifications that are to be sent again, after a delay.
    async fn count(&mut self, answers: Answers) -> Result<u64, Failure> {
        self.sent += answers.sent;
        self.in_doubt += answers.in_doubt;
        if let Some(error) = &answers.doubt {
            let what = counted(answers.in_doubt, "notification is", "notifications are");
            console::line(&format!("pgbell: {what} in doubt: {error:#}"));
        }
        if answers.sent > 0 && self.failing_since.take().is_some() {
            console::line("pgbell: sending again");
        }
        let Some(error) = &answers.failure else { return Ok(0) };
        let is_first = self.failing_since.is_none();
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        let is_passing =
            error.is_transient() || matches!(error.kind(), ErrorKind::Timeout | ErrorKind::InDoubt);
        if !is_passing || since.elapsed() >= self.retry {
            return Err(Failure::running(error));
        }
        if is_first {
            console::line(&format!("pgbell: trying again: {error:#}"));
        }
        sleep(RETRY_DELAY).await;
        Ok(answers.again)
    }

    /// Counts what is being sent as in doubt: the program ends.
    pub(super) fn give_up(&mut self) {
        self.in_doubt += std::mem::take(&mut self.in_flight);
    }

    /// Returns the exit code of an end without another failure.
    pub(super) fn exit(&self) -> Exit {
        if self.in_doubt > 0 { Exit::InDoubt } else { Exit::Ok }
    }

    pub(super) fn summary(&self) -> String {
        let time = self.since.elapsed();
        let rate = rate(per_second(self.sent, time));
        let mut text = format!("sent {} in {} ({rate})", grouped(self.sent), seconds(time));
        if self.in_doubt > 0 {
            text.push_str(&format!(", {} in doubt", grouped(self.in_doubt)));
        }
        text
    }

    /// Ends the session. During an outage there is none, and nothing is waited for.
    pub(super) async fn close(self) {
        let _ = timeout(CLOSE_MAX, self.notifier.close()).await;
    }
}

/// The answers to calls that were made together.
#[derive(Default)]
struct Answers {
    sent: u64,
    in_doubt: u64,
    /// To be sent again.
    again: u64,
    /// The first reason for which some are in doubt.
    doubt: Option<Error>,
    /// The first reason for which some were not sent, or are sent again.
    failure: Option<Error>,
}

impl Answers {
    /// Takes the answer to a call. Returns whether the call is to be made again.
    fn take(&mut self, number: u64, answer: Result<(), Error>, resends: bool) -> bool {
        let error = match answer {
            Ok(()) => {
                self.sent += number;
                return false;
            }
            Err(error) => error,
        };
        if error.kind() == ErrorKind::InDoubt && !resends {
            self.in_doubt += number;
            self.doubt.get_or_insert(error);
            return false;
        }
        self.again += number;
        self.failure.get_or_insert(error);
        true
    }
}

/// Runs futures concurrently. Each starts after the one before, so their commands are sent in this order.
async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    poll_fn(|cx| {
        let mut waiting = false;
        for (future, output) in futures.iter_mut().filter(|(_, output)| output.is_none()) {
            match Pin::new(future).poll(cx) {
                Poll::Ready(ready) => *output = Some(ready),
                Poll::Pending => waiting = true,
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    futures.into_iter().filter_map(|(_, output)| output).collect()
}
