//! [`Runs`]: the runs of a handler, in tasks.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};

use super::job::{DeadJob, Job, Wanted};
use super::message::Message;
use crate::dispatcher::{ContainedRun, Function, Outcome};
use crate::error::contain;
use crate::net;

/// The longest time of a run without a task of its own: several times what a task costs.
const QUICK: Duration = Duration::from_micros(10);

/// How many runs must be quick, one after the other, before several share a task.
const QUICK_MIN: u32 = 16;

/// For how long a consumer waits for quick runs before it begins another statement, which then stores their ends too.
const WAIT_MAX: Duration = Duration::from_millis(1);

/// The functions of the user. What they have captured is dropped contained.
pub(super) struct UserFunctions {
    pub(super) handler: Option<Function<Job>>,
    pub(super) on_dead: Option<OnDead>,
}

pub(super) type OnDead = Box<dyn Fn(DeadJob) + Send + Sync>;

/// How a run has ended.
#[derive(Debug)]
pub(super) enum RunEnd {
    Ended(Outcome),
    Cancelled,
    /// The handler was not called, because the consumer stops.
    NotStarted,
}

/// The id of a job, and how its run has ended.
pub(super) type Ended = (i64, RunEnd);

/// The runs of the handler of a consumer.
///
/// Each has a task of its own, so that one that waits or blocks its thread keeps neither another one nor the consumer from running. But a task costs more
/// than a handler that does little. So after some runs that were quick, those that start together share a task. If it takes too long, what has ended
/// there is taken from it, and those that were to follow have tasks of their own; also a run that waits.
#[derive(Debug)]
pub(super) struct Runs {
    functions: Arc<UserFunctions>,
    wanted: mpsc::Sender<Wanted>,
    tasks: JoinSet<Report>,
    jobs: HashMap<Id, Jobs>,
    /// How many runs were quick, one after the other.
    quick: u32,
    /// The task that is shared, and until when the consumer waits for it.
    sharing: Option<(Id, Instant)>,
    is_stopping: bool,
    is_cancelled: bool,
}

/// The jobs of a task.
#[derive(Debug)]
enum Jobs {
    One(i64),
    Shared(Arc<Mutex<Shared>>),
}

/// The jobs of a task of several runs.
#[derive(Debug, Default)]
struct Shared {
    ended: Vec<Ended>,
    /// The one whose handler was called last, and has not ended.
    current: Option<i64>,
    /// Those that were not started.
    rest: VecDeque<Message>,
}

/// What a task has done.
#[derive(Debug, Default)]
struct Report {
    ended: Option<Ended>,
    /// All its runs were quick.
    is_quick: bool,
    /// The run that waits.
    waiting: Option<(i64, ContainedRun)>,
}

impl Runs {
    pub(super) fn new(functions: Arc<UserFunctions>, wanted: mpsc::Sender<Wanted>) -> Self {
        Self {
            functions,
            wanted,
            tasks: JoinSet::new(),
            jobs: HashMap::new(),
            quick: 0,
            sharing: None,
            is_stopping: false,
            is_cancelled: false,
        }
    }

    /// Returns the number of jobs whose runs have not ended.
    pub(super) fn jobs(&self) -> usize {
        let of_task = |jobs: &Jobs| match jobs {
            Jobs::One(_) => 1,
            Jobs::Shared(shared) => {
                let shared = lock(shared);
                shared.rest.len() + usize::from(shared.current.is_some())
            }
        };
        self.jobs.values().map(of_task).sum()
    }

    /// Starts a run for each message. This must not yield: a handler that blocks its thread would keep the consumer from running again.
    pub(super) fn start(&mut self, messages: Vec<Message>) {
        if self.quick < QUICK_MIN || self.sharing.is_some() {
            messages.into_iter().for_each(|message| self.start_one(message));
            return;
        }
        if messages.is_empty() {
            return;
        }
        let shared = Shared { rest: messages.into(), ..Shared::default() };
        let shared = Arc::new(Mutex::new(shared));
        let (functions, wanted) = (self.functions.clone(), self.wanted.clone());
        let task = self.tasks.spawn(run_shared(functions, wanted, shared.clone()));
        self.jobs.insert(task.id(), Jobs::Shared(shared));
        self.sharing = Some((task.id(), net::now() + WAIT_MAX));
    }

    /// Returns until when the ends of quick runs are worth waiting for.
    pub(super) fn wait_until(&self) -> Option<Instant> {
        self.sharing.map(|(_, until)| until)
    }

    /// Starts a task with one run.
    fn start_one(&mut self, message: Message) {
        let msg_id = message.msg_id();
        let (functions, wanted) = (self.functions.clone(), self.wanted.clone());
        self.spawn(msg_id, async move {
            let mut run = begin(&functions, wanted, message);
            let (first, is_quick) = first_poll(&mut run).await;
            let outcome = match first {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => run.await,
            };
            Report { ended: Some((msg_id, RunEnd::Ended(outcome))), is_quick, waiting: None }
        });
    }

    fn spawn(&mut self, msg_id: i64, task: impl Future<Output = Report> + Send + 'static) {
        self.jobs.insert(self.tasks.spawn(task).id(), Jobs::One(msg_id));
    }

    /// Waits for the next ends. `None` if nothing runs.
    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<Ended>>> {
        while let Some(joined) = ready!(self.tasks.poll_join_next_with_id(cx)) {
            let ended = self.handle_joined(joined);
            if !ended.is_empty() {
                return Poll::Ready(Some(ended));
            }
        }
        Poll::Ready(None)
    }

    /// Returns ends that have not been returned, if there are any.
    pub(super) fn next_ended(&mut self, now: Instant) -> Option<Vec<Ended>> {
        if let Some(joined) = self.tasks.try_join_next_with_id() {
            return Some(self.handle_joined(joined));
        }
        let (id, _) = self.sharing.filter(|(_, until)| *until <= now)?;
        (self.sharing, self.quick) = (None, 0);
        Some(self.take_shared(id))
    }

    /// Waits for the next ends. `None` if nothing runs.
    pub(super) async fn ended(&mut self) -> Option<Vec<Ended>> {
        poll_fn(|cx| self.poll_ended(cx)).await
    }

    /// Starts nothing more. Returns the ends of what was not started.
    pub(super) fn stop(&mut self) -> Vec<Ended> {
        self.is_stopping = true;
        self.sharing = None;
        let ids: Vec<_> = self.jobs.keys().copied().collect();
        ids.into_iter().flat_map(|id| self.take_shared(id)).collect()
    }

    /// Cancels all: their futures are dropped at their next await.
    pub(super) fn cancel(&mut self) {
        self.is_cancelled = true;
        self.tasks.abort_all();
    }

    /// Takes what has ended in a task of several runs. What was not started there is started in tasks of its own, or is returned.
    fn take_shared(&mut self, id: Id) -> Vec<Ended> {
        let Some(Jobs::Shared(shared)) = self.jobs.get(&id) else { return Vec::new() };
        let (mut ended, rest) = {
            let mut shared = lock(shared);
            (std::mem::take(&mut shared.ended), std::mem::take(&mut shared.rest))
        };
        for message in rest {
            if self.is_stopping {
                ended.push((message.msg_id(), RunEnd::NotStarted));
            } else {
                self.start_one(message);
            }
        }
        ended
    }

    fn handle_joined(&mut self, joined: Result<(Id, Report), JoinError>) -> Vec<Ended> {
        let (id, report) = match joined {
            Ok((id, report)) => (id, Some(report)),
            Err(error) => (error.id(), None),
        };
        if self.sharing.is_some_and(|(sharing, _)| sharing == id) {
            self.sharing = None;
        }
        let mut ended = self.take_shared(id);
        let jobs = self.jobs.remove(&id);
        let Some(Report { ended: one, is_quick, waiting }) = report else {
            // It was cancelled.
            let current = match jobs {
                Some(Jobs::One(msg_id)) => Some(msg_id),
                Some(Jobs::Shared(shared)) => lock(&shared).current,
                None => None,
            };
            ended.extend(current.map(|msg_id| (msg_id, RunEnd::Cancelled)));
            return ended;
        };
        self.quick = if is_quick { self.quick.saturating_add(1) } else { 0 };
        ended.extend(one);
        match waiting {
            Some((msg_id, _)) if self.is_cancelled => ended.push((msg_id, RunEnd::Cancelled)),
            Some((msg_id, run)) => self.spawn(msg_id, async move {
                let ended = Some((msg_id, RunEnd::Ended(run.await)));
                Report { ended, ..Report::default() }
            }),
            None => {}
        }
        ended
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls the handler.
fn begin(
    functions: &UserFunctions,
    wanted: mpsc::Sender<Wanted>,
    message: Message,
) -> ContainedRun {
    let job = Job::new(message, wanted);
    ContainedRun::new(|| match &functions.handler {
        Some(handler) => handler(job),
        None => Box::pin(async { Outcome::Done }),
    })
}

/// Polls a run once. Returns also whether it has ended in a short time.
async fn first_poll(run: &mut ContainedRun) -> (Poll<Outcome>, bool) {
    let begun = Instant::now();
    let poll = poll_fn(|cx| Poll::Ready(Pin::new(&mut *run).poll(cx))).await;
    let is_quick = poll.is_ready() && begun.elapsed() <= QUICK;
    (poll, is_quick)
}

/// Runs the handler for each message, until a run is not quick or the messages are taken.
async fn run_shared(
    functions: Arc<UserFunctions>,
    wanted: mpsc::Sender<Wanted>,
    shared: Arc<Mutex<Shared>>,
) -> Report {
    let mut report = Report { is_quick: true, ..Report::default() };
    while report.is_quick {
        let message = {
            let mut shared = lock(&shared);
            let Some(message) = shared.rest.pop_front() else { break };
            shared.current = Some(message.msg_id());
            message
        };
        let msg_id = message.msg_id();
        let mut run = begin(&functions, wanted.clone(), message);
        let (poll, is_quick) = first_poll(&mut run).await;
        report.is_quick = is_quick;
        match poll {
            Poll::Ready(outcome) => {
                let mut shared = lock(&shared);
                shared.ended.push((msg_id, RunEnd::Ended(outcome)));
                shared.current = None;
            }
            Poll::Pending => report.waiting = Some((msg_id, run)),
        }
    }
    report
}

impl Drop for UserFunctions {
    fn drop(&mut self) {
        let (handler, on_dead) = (self.handler.take(), self.on_dead.take());
        let _ = contain(|| drop(handler));
        let _ = contain(|| drop(on_dead));
    }
}

impl fmt::Debug for UserFunctions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserFunctions").finish_non_exhaustive()
    }
}
