//! [`ConsumerTask`]: carries time, statements and runs of the handler to and from the machine.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Sleep, sleep_until, timeout};

use super::job::{DeadJob, Wanted};
use super::machine::{Answer, Command, ConsumerMachine, Effect, End, Failed};
use super::refusal::{is_passing, is_retried};
use super::rest::Rest;
use super::runs::{Ended, RunEnd, Runs, UserFunctions};
use super::shared::ConsumerShared;
use super::stopped::Stopped;
use super::store::JobStore;
use super::telemetry;
use crate::dispatcher::{Demand, Outcome, Phase};
use crate::error::{Error, ErrorKind, contain};
use crate::net;
use crate::proto::supervisor::Backoff;
use crate::wakeups::{Wake, WakeWorker};

/// The time in which a cancelled handler must reach its next await.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// The time in which the server must store the last ends of a stop.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);

/// How many requests for more time wait.
pub(super) const WANTED_MAX: usize = 64;

/// The longest reason of a failure, in characters.
const REASON_CHARS_MAX: usize = 2_048;

/// The timer when nothing is due.
const FAR: Duration = Duration::from_secs(3_600);

type Executed = (Box<JobStore>, Result<Answer, Error>);

/// The task of a consumer.
pub(super) struct ConsumerTask {
    queue: String,
    machine: ConsumerMachine,
    /// `None` while a statement runs.
    store: Option<Box<JobStore>>,
    statement: Option<Pin<Box<dyn Future<Output = Executed> + Send>>>,
    /// After a failure, no statement is begun before.
    paused_until: Option<Instant>,
    /// The longest pause while there are jobs, whose visibility timeout must not pass.
    pause_max: Duration,
    backoff: Backoff,
    worker: WakeWorker,
    interval: Duration,
    /// No other wake-up is taken now.
    rest: Option<Rest>,
    /// The time of the next poll, if the wake-ups of the user are closed.
    poll_at: Option<Instant>,
    functions: Arc<UserFunctions>,
    runs: Runs,
    wanted: mpsc::Receiver<Wanted>,
    replies: Vec<Reply>,
    shared: Arc<ConsumerShared>,
    stopped: watch::Sender<Option<Stopped>>,
    error: Option<Error>,
    /// The throttle is to be read again: the poll has come.
    is_throttle_old: bool,
    /// A notification has been the reason for that since the last poll.
    has_looked: bool,
    /// When it was last decided to read it.
    looked_at: Instant,
}

/// A handler that waits for more time.
struct Reply {
    msg_id: i64,
    /// A statement for it is being executed.
    is_sent: bool,
    reply: oneshot::Sender<Result<(), Error>>,
}

/// What a task is made of.
pub(super) struct ConsumerParts {
    pub(super) queue: String,
    pub(super) machine: ConsumerMachine,
    pub(super) store: JobStore,
    pub(super) backoff: Backoff,
    pub(super) pause_max: Duration,
    pub(super) worker: WakeWorker,
    pub(super) interval: Duration,
    pub(super) functions: UserFunctions,
    pub(super) shared: Arc<ConsumerShared>,
    pub(super) stopped: watch::Sender<Option<Stopped>>,
}

/// What happens to the task.
enum Event {
    Executed(Executed),
    Ended(Vec<Ended>),
    /// `None`: the wake-ups are closed.
    Woken(Option<Wake>),
    Wanted(Wanted),
    /// A time has come, or the demand has changed.
    Other,
}

impl ConsumerTask {
    pub(super) fn new(parts: ConsumerParts) -> Self {
        let (sender, wanted) = mpsc::channel(WANTED_MAX);
        let functions = Arc::new(parts.functions);
        Self {
            queue: parts.queue,
            machine: parts.machine,
            store: Some(Box::new(parts.store)),
            statement: None,
            paused_until: None,
            pause_max: parts.pause_max,
            backoff: parts.backoff,
            worker: parts.worker,
            interval: parts.interval,
            rest: None,
            poll_at: None,
            runs: Runs::new(functions.clone(), sender),
            functions,
            wanted,
            replies: Vec::new(),
            shared: parts.shared,
            stopped: parts.stopped,
            error: None,
            is_throttle_old: false,
            has_looked: false,
            looked_at: net::now(),
        }
    }

    pub(super) async fn run(mut self) {
        telemetry::started(&self.queue);
        let mut demands = self.shared.demands();
        let mut timer = Box::pin(sleep_until(tokio::time::Instant::now()));
        // A message that was sent just before may be one that the throttle has hidden.
        self.machine.handle_woken(net::now());
        loop {
            let Demand { phase, deadline } = *demands.borrow_and_update();
            let is_stopping = phase >= Phase::Stopping || self.error.is_some();
            if is_stopping {
                self.stop_starting();
            }
            self.start_jobs();
            self.start_statement();
            self.shared.set_stats(self.machine.stats());
            let is_late = deadline.is_some_and(|at| at <= tokio::time::Instant::now());
            if phase == Phase::Cancelled || is_late || is_stopping && self.machine.is_idle() {
                break;
            }
            self.end_rest();
            let due = self.next_time(deadline, is_stopping);
            timer.as_mut().reset(due);
            let event = self.next_event(&mut demands, timer.as_mut(), is_stopping).await;
            self.handle(event);
            // What has ended meanwhile is stored by one statement.
            self.handle_all_ended();
        }
        self.end().await;
    }

    /// Starts as many handlers as may run.
    fn start_jobs(&mut self) {
        let now = net::now();
        let messages: Vec<_> = std::iter::from_fn(|| self.machine.poll_start(now)).collect();
        self.runs.start(messages);
    }

    /// Gives back what was not started.
    fn stop_starting(&mut self) {
        self.machine.handle_stop();
        let not_started = self.runs.stop();
        self.handle_ended(not_started);
    }

    /// Handles the ends that have not been handled.
    fn handle_all_ended(&mut self) {
        while let Some(ended) = self.runs.next_ended(net::now()) {
            self.handle_ended(ended);
        }
    }

    /// Begins the next statement, if none runs.
    fn start_statement(&mut self) {
        let now = net::now();
        let is_early = |until: Option<Instant>| until.is_some_and(|until| until > now);
        if is_early(self.paused_until) || is_early(self.runs.wait_until()) || self.error.is_some() {
            return;
        }
        self.paused_until = None;
        let Some(mut store) = self.store.take() else { return };
        match self.machine.poll_command(now) {
            None => self.store = Some(store),
            Some(command) => {
                if let Command::SetVisibility(jobs) = &command {
                    let is_of =
                        |reply: &Reply| jobs.iter().any(|(one, _)| one.msg_id == reply.msg_id);
                    self.replies.iter_mut().for_each(|reply| reply.is_sent |= is_of(reply));
                }
                if std::mem::take(&mut self.is_throttle_old) {
                    store.refresh_throttle();
                }
                self.statement = Some(Box::pin(async move {
                    let answer = store.execute(&command).await;
                    (store, answer)
                }));
            }
        }
    }

    /// Ends the rest after a wake-up, unless a burst is still arriving.
    fn end_rest(&mut self) {
        let now = net::now();
        if let Some(rest) = self.rest.filter(|rest| rest.until <= now) {
            self.rest = rest.at(now, self.worker.stats().notifications);
        }
    }

    /// Returns when the loop must run without another event.
    fn next_time(
        &self,
        deadline: Option<tokio::time::Instant>,
        is_stopping: bool,
    ) -> tokio::time::Instant {
        let far = tokio::time::Instant::now() + FAR;
        let of_machine = self.machine.next_time().filter(|_| self.statement.is_none());
        // What is due waits for the end of the pause, and for quick runs.
        let waits = self.paused_until.max(self.runs.wait_until());
        let of_machine = of_machine.max(waits.filter(|_| of_machine.is_some()));
        let rest_until = self.rest.map(|rest| rest.until);
        let waking = [self.poll_at, rest_until].map(|at| at.filter(|_| !is_stopping));
        let of_runs = self.runs.wait_until().filter(|_| self.statement.is_none());
        let times = [of_machine, self.paused_until, of_runs, waking[0], waking[1]];
        let times = times.into_iter().flatten().map(tokio::time::Instant::from_std);
        times.chain(deadline).fold(far, Ord::min)
    }

    async fn next_event(
        &mut self,
        demands: &mut watch::Receiver<Demand>,
        mut timer: Pin<&mut Sleep>,
        is_stopping: bool,
    ) -> Event {
        let Self { statement, runs, worker, wanted, poll_at, rest, .. } = self;
        let mut woken = pin!(worker.wake());
        let mut changed = pin!(demands.changed());
        let is_woken = !is_stopping && poll_at.is_none() && rest.is_none();
        poll_fn(|cx| {
            if let Some(future) = statement
                && let Poll::Ready(executed) = future.as_mut().poll(cx)
            {
                *statement = None;
                return Poll::Ready(Event::Executed(executed));
            }
            if let Poll::Ready(Some(ended)) = runs.poll_ended(cx) {
                return Poll::Ready(Event::Ended(ended));
            }
            if let Poll::Ready(Some(one)) = wanted.poll_recv(cx) {
                return Poll::Ready(Event::Wanted(one));
            }
            if changed.as_mut().poll(cx).is_ready() || timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::Other);
            }
            if is_woken && let Poll::Ready(wake) = woken.as_mut().poll(cx) {
                return Poll::Ready(Event::Woken(wake.ok()));
            }
            Poll::Pending
        })
        .await
    }

    fn handle(&mut self, event: Event) {
        let now = net::now();
        if self.poll_at.is_some_and(|at| at <= now) {
            self.poll_at = Some(self.poll_after(now));
            self.is_throttle_old = true;
            self.machine.handle_woken(now);
        }
        match event {
            Event::Executed((store, answer)) => self.handle_executed(store, answer),
            Event::Ended(ended) => self.handle_ended(ended),
            Event::Woken(Some(wake)) => {
                // Each notification moves the poll, so a queue that is woken may have none.
                let is_due = now.saturating_duration_since(self.looked_at) >= self.interval;
                let is_poll = matches!(wake, Wake::Poll) || is_due;
                // Notifications of a queue that had none may have been enabled since. It is looked for once in an interval.
                let may_be_new = !self.has_looked && !self.machine.has_throttle();
                if is_poll || may_be_new {
                    (self.is_throttle_old, self.looked_at) = (true, now);
                }
                self.has_looked = !is_poll;
                let received = self.worker.stats().notifications;
                self.rest = Some(Rest::begin(now, received));
                self.machine.handle_woken(now);
            }
            Event::Woken(None) => self.poll_at = Some(self.poll_after(now)),
            Event::Wanted(Wanted { msg_id, time, reply }) => {
                match self.machine.handle_wanted(msg_id, time, now) {
                    Some(true) => drop(reply.send(Ok(()))),
                    Some(false) => self.replies.push(Reply { msg_id, is_sent: false, reply }),
                    None => drop(reply.send(Err(not_held()))),
                }
            }
            Event::Other => {}
        }
    }

    /// Returns the time of the next poll of this task. An interval can be longer than any instant.
    fn poll_after(&self, now: Instant) -> Instant {
        now.checked_add(self.interval).unwrap_or(now + FAR)
    }

    fn handle_executed(&mut self, store: Box<JobStore>, answer: Result<Answer, Error>) {
        self.machine.set_throttle(net::now(), store.throttle());
        self.shared.set_notified(store.is_notified());
        self.store = Some(store);
        match answer {
            Ok(answer) => {
                self.backoff.reset();
                for effect in self.machine.handle_answer(net::now(), answer) {
                    self.apply(effect);
                }
            }
            Err(error) => self.handle_error(error),
        }
    }

    fn handle_error(&mut self, error: Error) {
        for one in self.replies.extract_if(.., |one| one.is_sent) {
            let _ = one.reply.send(Err(error.clone()));
        }
        self.shared.set_error(error.clone());
        let Some(failed) = self.failure_of(&error) else {
            // No other statement follows, and the runs are waited for.
            for one in self.replies.drain(..) {
                let _ = one.reply.send(Err(error.clone()));
            }
            self.machine.handle_abandoned();
            self.error = Some(error);
            return;
        };
        // If the server has answered, what concerns the end of one job is no reason for the others to wait.
        let pauses = match failed {
            Failed::Refused => !self.machine.is_storing(),
            Failed::Undone => !self.machine.is_burying(),
            Failed::InDoubt => true,
        };
        for effect in self.machine.handle_failed(net::now(), failed) {
            self.apply(effect);
        }
        if !pauses {
            return;
        }
        let delay = pause(self.backoff.next(), self.pause_max, self.machine.has_jobs());
        telemetry::retrying(&self.queue, &error, delay);
        self.paused_until = net::now().checked_add(delay);
    }

    /// Returns how a statement has failed, or `None` if the consumer ends.
    fn failure_of(&self, error: &Error) -> Option<Failed> {
        let is_of_server = error.db_error().is_some_and(|error| !error.is_fatal());
        if is_of_server && !is_passing(error) {
            // A dead-letter queue that was dropped is no reason to handle no more jobs.
            let is_refused = self.machine.is_storing() && is_retried(error);
            if is_refused || self.machine.is_burying() {
                return Some(Failed::Refused);
            }
        }
        if !is_retried(error) {
            return None;
        }
        Some(if is_of_server { Failed::Undone } else { Failed::InDoubt })
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Extended { msg_id, is_held } => {
                // No later statement has a job that is not held.
                let is_answered =
                    |one: &mut Reply| one.msg_id == msg_id && (one.is_sent || !is_held);
                for one in self.replies.extract_if(.., is_answered) {
                    let _ = one.reply.send(if is_held { Ok(()) } else { Err(not_held()) });
                }
            }
            Effect::Locked { msg_id } => {
                let is_answered = |one: &mut Reply| one.is_sent && one.msg_id == msg_id;
                for one in self.replies.extract_if(.., is_answered) {
                    let _ = one.reply.send(Err(locked()));
                }
            }
            Effect::Refused { msg_id } => {
                telemetry::refused(&self.queue, msg_id, self.shared.last_error().as_ref());
            }
            Effect::Overtaken { msg_id } => telemetry::overtaken(&self.queue, msg_id),
            Effect::Dead { msg_id, attempts, reason } => {
                telemetry::dead(&self.queue, msg_id, attempts, &reason);
                if let Some(on_dead) = &self.functions.on_dead {
                    let _ = contain(|| on_dead(DeadJob { msg_id, attempts, reason }));
                }
            }
        }
    }

    fn handle_ended(&mut self, ended: Vec<Ended>) {
        for (msg_id, end) in ended {
            let end = match end {
                RunEnd::Ended(outcome) => self.end_of(outcome),
                RunEnd::Cancelled => End::Cancelled,
                RunEnd::NotStarted => End::NotStarted,
            };
            if let End::Failed(reason) = &end {
                telemetry::failed(&self.queue, msg_id, reason);
            }
            for one in self.replies.extract_if(.., |one| one.msg_id == msg_id) {
                let _ = one.reply.send(Err(not_held()));
            }
            self.machine.handle_ended(msg_id, end);
        }
    }

    fn end_of(&mut self, outcome: Outcome) -> End {
        match outcome {
            Outcome::Done => End::Done,
            Outcome::Failed(error) => {
                let text = contain(|| reason_of(&*error));
                let _ = contain(|| drop(error));
                End::Failed(text.unwrap_or_else(|_| "the text of the error panicked".to_owned()))
            }
            #[cfg(feature = "json")]
            Outcome::Undecodable(error) => End::Failed(reason_of(&*error)),
            Outcome::Panicked(message) => {
                self.machine.count_panic();
                End::Failed(shortened(&format!("the handler panicked: {message}")))
            }
        }
    }

    /// Cancels what runs, lets the server store what has ended, and ends the sessions.
    async fn end(mut self) {
        let mut cancelled = 0;
        self.stop_starting();
        self.runs.cancel();
        let join = async {
            while let Some(ended) = self.runs.ended().await {
                let is_cancelled = |(_, end): &&Ended| matches!(end, RunEnd::Cancelled);
                cancelled += ended.iter().filter(is_cancelled).count() as u64;
                self.handle_ended(ended);
            }
        };
        let _ = timeout(CANCEL_TIMEOUT, join).await;
        let blocked = self.runs.jobs() as u64;
        // At once, also during a pause.
        self.paused_until = None;
        let _ = timeout(STORE_TIMEOUT, self.store_rest()).await;
        // With its session: the server is asked to cancel it.
        self.statement = None;
        // Those that are blocked or cancelled are counted as such.
        self.machine.handle_abandoned();
        let unstored = self.machine.unstored();
        self.shared.set_stats(self.machine.stats());
        if let Some(mut store) = self.store.take() {
            let _ = timeout(STORE_TIMEOUT, store.close()).await;
        }
        if let Some(wakeups) = self.shared.take_wakeups() {
            wakeups.close().await;
        }
        telemetry::stopped(&self.queue, &self.machine.stats(), self.error.as_ref());
        let error = self.error.take();
        let _ = self.stopped.send(Some(Stopped { cancelled, blocked, unstored, error }));
    }

    /// Executes statements until there is none left. What fails is tried again after a pause, as long as the caller waits.
    async fn store_rest(&mut self) {
        loop {
            self.start_statement();
            if let Some(statement) = &mut self.statement {
                let (store, answer) = statement.await;
                self.statement = None;
                self.handle_executed(store, answer);
                continue;
            }
            let next = self.paused_until.or_else(|| self.machine.next_time());
            match next.filter(|_| self.error.is_none() && self.machine.has_jobs()) {
                Some(at) => sleep_until(at.into()).await,
                None => return,
            }
        }
    }
}

/// Returns the pause after a failure. With jobs it is short, also without a session: one that can be opened again must extend them in time.
fn pause(delay: Duration, longest: Duration, has_jobs: bool) -> Duration {
    if has_jobs { delay.min(longest) } else { delay }
}

/// Writes an error of the user with its causes.
fn reason_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source
        && text.len() < REASON_CHARS_MAX
    {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    shortened(&text)
}

/// Cuts a text. PostgreSQL has no NUL in texts.
fn shortened(text: &str) -> String {
    text.chars().filter(|one| *one != '\0').take(REASON_CHARS_MAX).collect()
}

#[cold]
fn not_held() -> Error {
    let message = "the consumer does not have the job any more";
    Error::new(ErrorKind::Fenced, message)
}

#[cold]
fn locked() -> Error {
    let message =
        "the job is locked by a transaction, for example one in which its handler finishes it";
    let hint = "the lock keeps other readers from the job; extend it before the transaction";
    Error::new(ErrorKind::Misuse, message).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An earlier version paused for up to 30 s after the loss of a session, while jobs lapsed.
    #[test]
    fn a_pause_with_jobs_is_shorter_than_what_is_left_of_their_timeout() {
        let (long, short) = (Duration::from_secs(30), Duration::from_secs(5));
        assert_eq!(pause(long, short, true), short);
        assert_eq!(pause(short / 2, short, true), short / 2);
        assert_eq!(pause(long, short, false), long);
    }
}
