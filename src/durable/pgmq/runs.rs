//! [`Runs`]: the runs of a handler, in tasks.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
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

/// How a run has ended. `None` if it was cancelled.
pub(super) type RunEnd = (i64, Option<Outcome>);

/// The runs of the handler of a consumer.
///
/// Each has a task of its own, so that one that waits or blocks its thread keeps neither another one nor the consumer from running. But a task costs more
/// than a handler that does little. So after some runs that were quick, those that start together share a task, until one is not quick: those that were
/// to follow it, and itself if it waits, have tasks of their own then.
#[derive(Debug)]
pub(super) struct Runs {
    functions: Arc<UserFunctions>,
    wanted: mpsc::Sender<Wanted>,
    tasks: JoinSet<Report>,
    /// The jobs of each task.
    jobs: HashMap<Id, Vec<i64>>,
    /// How many runs were quick, one after the other.
    quick: u32,
    /// How many tasks are shared, and until when the consumer waits for them.
    shared: usize,
    wait_until: Option<Instant>,
    is_cancelled: bool,
}

/// What a task of several runs has done.
#[derive(Debug, Default)]
struct Report {
    ended: Vec<RunEnd>,
    /// The task was one of several runs.
    is_shared: bool,
    /// All were quick.
    is_quick: bool,
    /// The run that waits.
    waiting: Option<(i64, ContainedRun)>,
    /// Those that were not started.
    rest: Vec<Message>,
}

impl Runs {
    pub(super) fn new(functions: Arc<UserFunctions>, wanted: mpsc::Sender<Wanted>) -> Self {
        let (tasks, jobs) = (JoinSet::new(), HashMap::new());
        Self {
            functions,
            wanted,
            tasks,
            jobs,
            quick: 0,
            shared: 0,
            wait_until: None,
            is_cancelled: false,
        }
    }

    /// Returns the number of jobs whose runs have not ended.
    pub(super) fn jobs(&self) -> usize {
        self.jobs.values().map(Vec::len).sum()
    }

    /// Starts a run for each message. This must not yield: a handler that blocks its thread would keep the consumer from running again.
    pub(super) fn start(&mut self, messages: Vec<Message>) {
        if self.quick < QUICK_MIN {
            messages.into_iter().for_each(|message| self.start_one(message));
            return;
        }
        if messages.is_empty() {
            return;
        }
        let msg_ids = messages.iter().map(Message::msg_id).collect();
        let (functions, wanted) = (self.functions.clone(), self.wanted.clone());
        let task = self.tasks.spawn(run_quick(functions, wanted, messages));
        self.jobs.insert(task.id(), msg_ids);
        self.shared += 1;
        self.wait_until = net::now().checked_add(WAIT_MAX);
    }

    /// Returns until when the ends of quick runs are worth waiting for.
    pub(super) fn wait_until(&self) -> Option<Instant> {
        self.wait_until.filter(|_| self.shared > 0)
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
            Report { ended: vec![(msg_id, Some(outcome))], is_quick, ..Report::default() }
        });
    }

    fn spawn(&mut self, msg_id: i64, task: impl Future<Output = Report> + Send + 'static) {
        self.jobs.insert(self.tasks.spawn(task).id(), vec![msg_id]);
    }

    /// Waits for the next ends. `None` if nothing runs.
    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<RunEnd>>> {
        while let Some(joined) = ready!(self.tasks.poll_join_next_with_id(cx)) {
            let ended = self.handle_joined(joined);
            if !ended.is_empty() {
                return Poll::Ready(Some(ended));
            }
        }
        Poll::Ready(None)
    }

    /// Returns ends that have not been returned, if there are any.
    pub(super) fn next_ended(&mut self) -> Option<Vec<RunEnd>> {
        let joined = self.tasks.try_join_next_with_id()?;
        Some(self.handle_joined(joined))
    }

    /// Waits for the next ends. `None` if nothing runs.
    pub(super) async fn ended(&mut self) -> Option<Vec<RunEnd>> {
        poll_fn(|cx| self.poll_ended(cx)).await
    }

    /// Cancels all: their futures are dropped at their next await.
    pub(super) fn cancel(&mut self) {
        self.is_cancelled = true;
        self.tasks.abort_all();
    }

    fn handle_joined(&mut self, joined: Result<(Id, Report), JoinError>) -> Vec<RunEnd> {
        let (id, report) = match joined {
            Ok(joined) => joined,
            Err(error) => {
                let msg_ids = self.jobs.remove(&error.id()).unwrap_or_default();
                // Only a stop aborts tasks, so none is waited for any more.
                self.shared = 0;
                return msg_ids.into_iter().map(|msg_id| (msg_id, None)).collect();
            }
        };
        self.jobs.remove(&id);
        let Report { mut ended, is_shared, is_quick, waiting, rest } = report;
        self.shared = self.shared.saturating_sub(usize::from(is_shared));
        self.quick = if is_quick { self.quick.saturating_add(1) } else { 0 };
        if self.is_cancelled {
            ended.extend(waiting.map(|(msg_id, _)| (msg_id, None)));
            ended.extend(rest.iter().map(|message| (message.msg_id(), None)));
            return ended;
        }
        if let Some((msg_id, run)) = waiting {
            self.spawn(msg_id, async move {
                Report { ended: vec![(msg_id, Some(run.await))], ..Report::default() }
            });
        }
        rest.into_iter().for_each(|message| self.start_one(message));
        ended
    }
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

/// Runs the handler for each message, until a run is not quick.
async fn run_quick(
    functions: Arc<UserFunctions>,
    wanted: mpsc::Sender<Wanted>,
    messages: Vec<Message>,
) -> Report {
    let ended = Vec::with_capacity(messages.len());
    let mut report = Report { ended, is_shared: true, is_quick: true, ..Report::default() };
    let mut messages = messages.into_iter();
    for message in messages.by_ref() {
        let msg_id = message.msg_id();
        let mut run = begin(&functions, wanted.clone(), message);
        let (poll, is_quick) = first_poll(&mut run).await;
        report.is_quick = is_quick;
        match poll {
            Poll::Ready(outcome) => report.ended.push((msg_id, Some(outcome))),
            Poll::Pending => report.waiting = Some((msg_id, run)),
        }
        if !is_quick {
            break;
        }
    }
    report.rest = messages.collect();
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
