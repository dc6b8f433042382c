//! [`WakeupsShared`]: what the wake-ups, their sink and the attempts to listen share.

use std::collections::HashMap;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::echoes::Echoes;
use super::listen::WakeupsStatus;
use super::stats::WakeupsStats;
use super::task::{TaskShared, WakeTask};
use crate::error::{Error, ErrorKind, contain};
use crate::listener::RunningTask;
use crate::net::{self, SessionPlace};
use crate::notification::Gap;
use crate::notifier::{Nudge, NudgeSource, NudgeTarget};
use crate::proto::supervisor::{PlacedGap, Scope, State};

#[derive(Debug)]
pub(super) struct WakeupsShared {
    /// Sorted by name.
    tasks: Vec<Arc<TaskShared>>,
    /// The tasks of each channel.
    by_channel: HashMap<Box<[u8]>, Vec<Arc<TaskShared>>>,
    session: Mutex<ListeningSession>,
    /// The error of the last attempt that has failed before there was a session.
    last_failure: Mutex<Option<Error>>,
    failed_attempts: AtomicU64,
    pub(super) echoes: Echoes,
}

/// Whether there is a session that listens.
#[derive(Debug)]
pub(super) enum ListeningSession {
    /// There is never one.
    Disabled,
    /// There is none yet, because of this error.
    Attempting(Error),
    /// There is one, or the next one is being opened.
    Running(RunningTask),
    Closed,
}

impl WakeupsShared {
    pub(super) fn new(mut tasks: Vec<WakeTask>) -> Self {
        tasks.sort_by(|a, b| a.name().cmp(b.name()));
        let tasks: Vec<_> = tasks.into_iter().map(TaskShared::new).map(Arc::new).collect();
        let mut by_channel = HashMap::<Box<[u8]>, Vec<_>>::new();
        for task in &tasks {
            for channel in task.channels() {
                by_channel.entry(channel.as_bytes().into()).or_default().push(task.clone());
            }
        }
        let connecting = Error::new(ErrorKind::Connect, "there was no attempt to listen yet");
        let session = Mutex::new(ListeningSession::Attempting(connecting));
        let (last_failure, failed_attempts) = (Mutex::new(None), AtomicU64::new(0));
        let echoes = Echoes::default();
        Self { tasks, by_channel, session, last_failure, failed_attempts, echoes }
    }

    pub(super) fn task(&self, name: &str) -> Option<&Arc<TaskShared>> {
        self.tasks.iter().find(|task| task.name == name)
    }

    /// Returns the tasks that a notification on `channel` wakes.
    pub(super) fn tasks_of(&self, channel: &[u8]) -> &[Arc<TaskShared>] {
        self.by_channel.get(channel).map_or(&[], Vec::as_slice)
    }

    fn session(&self) -> MutexGuard<'_, ListeningSession> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_failure(&self) -> MutexGuard<'_, Option<Error>> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the session, unless the wake-ups were closed meanwhile: then `next` is dropped, which ends it.
    pub(super) fn set_session(&self, next: ListeningSession) {
        let unused = {
            let mut session = self.session();
            match *session {
                ListeningSession::Closed => next,
                _ => mem::replace(&mut *session, next),
            }
        };
        drop(unused);
    }

    pub(super) fn attempt_failed(&self, error: Error) {
        self.failed_attempts.fetch_add(1, Ordering::Relaxed);
        let last = self.last_failure().replace(error.clone().brief());
        // An error can contain one of the user.
        let _ = contain(|| drop(last));
        self.set_session(ListeningSession::Attempting(error.brief()));
    }

    /// Ends every task, and returns the session.
    pub(super) fn close(&self) -> Option<RunningTask> {
        let session = mem::replace(&mut *self.session(), ListeningSession::Closed);
        self.tasks.iter().for_each(|task| task.close());
        self.tasks.iter().for_each(|task| task.wake_all());
        match session {
            ListeningSession::Running(running) => Some(running),
            _ => None,
        }
    }

    // ---- losses ----

    /// Returns the tasks that have channels.
    fn listening_tasks(&self) -> impl Iterator<Item = &TaskShared> {
        self.tasks.iter().map(Arc::as_ref).filter(|task| !task.channels().is_empty())
    }

    fn tasks_in<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = &'a TaskShared> {
        self.listening_tasks().filter(move |task| match scope {
            Scope::All => true,
            Scope::Channels(names) => names.iter().any(|name| task.channels().contains(name)),
        })
    }

    /// Holds back what follows, for the tasks in `scope`.
    pub(super) fn hold(&self, scope: &Scope) {
        self.echoes.listens_at(None);
        self.tasks_in(scope).for_each(|task| task.lock().hold());
    }

    /// Adds the gaps to the tasks that they concern, and shows everything. `place`: where the session is, which listens to all channels.
    pub(super) fn release(&self, gaps: Vec<PlacedGap>, place: Option<SessionPlace>) {
        self.echoes.listens_at(place);
        for PlacedGap { scope, gap, .. } in gaps {
            self.tasks_in(&scope).for_each(|task| task.lock().add_gap(Gap::clone(&gap)));
        }
        // All of them, before a waker runs.
        self.tasks.iter().for_each(|task| task.lock().release());
        self.wake();
    }

    /// Wakes a worker of each task that has a wake-up.
    fn wake(&self) {
        self.tasks.iter().for_each(|task| task.wake());
    }

    /// Discards what a session held back that has ended. If no other one follows, every task reads once more: the loss of this one is not
    /// reported.
    pub(super) fn session_has_ended(&self) {
        self.echoes.listens_at(None);
        let is_last = matches!(*self.session(), ListeningSession::Running(_));
        self.discard_held(is_last);
    }

    fn discard_held(&self, is_last: bool) {
        self.tasks.iter().for_each(|task| task.lock().discard_held());
        if is_last {
            self.poll_now();
        }
    }

    /// Wakes every task that has channels with a poll.
    pub(super) fn poll_now(&self) {
        self.listening_tasks().for_each(|task| task.lock().poll_now());
        self.wake();
    }

    // ---- observing ----

    pub(super) fn status(&self) -> WakeupsStatus {
        match &*self.session() {
            ListeningSession::Disabled => WakeupsStatus::Disabled,
            ListeningSession::Attempting(reason) => WakeupsStatus::Polling(reason.clone()),
            ListeningSession::Closed => WakeupsStatus::Closed,
            ListeningSession::Running(running) => {
                let handle = &running.handle;
                let reason = match handle.state() {
                    State::Connected => return WakeupsStatus::Listening,
                    State::Closed => handle.shared().cause().cloned(),
                    _ => handle.last_error(),
                };
                WakeupsStatus::Polling(reason.unwrap_or_else(|| {
                    Error::new(ErrorKind::Connect, "the next session is being opened")
                }))
            }
        }
    }

    pub(super) fn last_error(&self) -> Option<Error> {
        let of_session = match &*self.session() {
            ListeningSession::Running(running) => running.handle.last_error(),
            _ => None,
        };
        of_session.or_else(|| self.last_failure().clone())
    }

    pub(super) fn process_id(&self) -> Option<i32> {
        match &*self.session() {
            ListeningSession::Running(running) => running.handle.process_id(),
            _ => None,
        }
    }

    pub(super) fn stats(&self) -> WakeupsStats {
        let connection = match &*self.session() {
            ListeningSession::Running(running) => running.handle.stats(),
            _ => Default::default(),
        };
        WakeupsStats {
            connection,
            failed_attempts: self.failed_attempts.load(Ordering::Relaxed),
            tasks: self.tasks.iter().map(|task| (task.name.clone(), task.lock().counts)).collect(),
        }
    }
}

impl NudgeTarget for WakeupsShared {
    fn nudged(&self, channel: &str, key: &str) -> bool {
        let tasks = self.tasks_of(channel.as_bytes());
        // All of them, before a waker runs.
        tasks.iter().for_each(|task| task.lock().nudge(key));
        tasks.iter().for_each(|task| task.wake());
        self.tasks.iter().any(|task| !task.is_closed())
    }

    fn sent(&self, source: &NudgeSource, nudges: &[Nudge]) {
        let is_listened_to = |one: &&Nudge| !self.tasks_of(one.channel.as_bytes()).is_empty();
        self.echoes.expect(source, nudges.iter().filter(is_listened_to), net::now());
    }

    fn refused(&self, source: &NudgeSource, nudges: &[Nudge]) {
        self.echoes.refused(source, nudges, net::now());
    }

    fn session_ended(&self, source: &NudgeSource) {
        self.echoes.session_ended(source.process_id);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Wake as StdWake, Waker};
    use std::time::{Duration, SystemTime};

    use super::super::wake::Wake;
    use super::super::worker::WakeWorker;
    use super::*;
    use crate::proto::supervisor::StreamPosition;

    struct Panics;

    impl StdWake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("in a waker");
        }
    }

    /// Tasks `a` and `b` with a channel each, and `timer` without one, which are never polled because of their interval. Their first poll
    /// was taken.
    fn shared() -> WakeupsShared {
        let task = |name: &str| WakeTask::new(name).interval(Duration::MAX);
        let tasks = vec![task("a").channel("a"), task("b").channel("b"), task("timer")];
        let shared = WakeupsShared::new(tasks);
        for name in ["a", "b", "timer"] {
            assert!(matches!(next(&shared, name), Some(Wake::Poll)));
        }
        shared
    }

    fn worker(shared: &WakeupsShared, task: &str) -> WakeWorker {
        WakeWorker::new(shared.task(task).unwrap().clone())
    }

    /// Returns the next wake-up of a task, if there is one.
    fn next(shared: &WakeupsShared, task: &str) -> Option<Wake> {
        let worker = worker(shared, task);
        match pin!(worker.wake()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(wake) => Some(wake.unwrap()),
            Poll::Pending => None,
        }
    }

    fn lost() -> Vec<PlacedGap> {
        let gap = Gap::new(Error::new(ErrorKind::Connect, "lost"), SystemTime::UNIX_EPOCH, 1);
        vec![PlacedGap { position: StreamPosition(0), scope: Scope::All, gap }]
    }

    /// An earlier version did not reach the tasks behind the panic.
    #[test]
    fn a_panic_of_the_waker_of_one_worker_concerns_no_other_task() {
        let shared = shared();
        let (panics, of_a) = (Waker::from(Arc::new(Panics)), worker(&shared, "a"));
        let mut waits = pin!(of_a.wake());
        let mut sleep =
            || assert!(waits.as_mut().poll(&mut Context::from_waker(&panics)).is_pending());
        sleep();
        shared.hold(&Scope::All);
        shared.release(lost(), None);
        assert!(matches!(next(&shared, "b"), Some(Wake::Resync(_))));
        assert!(matches!(next(&shared, "a"), Some(Wake::Resync(_))));
        sleep();
        shared.poll_now();
        assert!(matches!(next(&shared, "b"), Some(Wake::Poll)));
        assert!(matches!(next(&shared, "a"), Some(Wake::Poll)));
        sleep();
        drop(shared.close());
        assert!(["a", "b", "timer"].iter().all(|name| shared.task(name).unwrap().is_closed()));
    }

    /// Its documentation says that only its interval wakes it. An earlier version woke it after every lost session.
    #[test]
    fn a_task_without_channels_is_not_woken_by_a_lost_session() {
        let shared = shared();
        shared.hold(&Scope::All);
        shared.release(lost(), None);
        shared.poll_now();
        assert!(next(&shared, "timer").is_none());
        assert!(next(&shared, "a").is_some());
    }

    /// An earlier version waited for the next poll, which may never come.
    #[test]
    fn what_was_held_back_when_the_last_session_ended_is_read() {
        let shared = shared();
        for is_last in [false, true] {
            shared.hold(&Scope::All);
            shared.task("a").unwrap().lock().ring("key");
            shared.discard_held(is_last);
            assert_eq!(matches!(next(&shared, "a"), Some(Wake::Poll)), is_last);
        }
    }

    #[test]
    fn the_last_failure_stays_after_the_attempt_that_follows() {
        let shared = shared();
        assert!(shared.last_error().is_none());
        shared.attempt_failed(Error::new(ErrorKind::Connect, "refused"));
        assert!(shared.last_error().is_some_and(|error| error.to_string().contains("refused")));
        shared.set_session(ListeningSession::Disabled);
        assert!(shared.last_error().is_some());
    }
}
