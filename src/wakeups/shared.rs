//! [`WakeupsShared`]: what the wake-ups, their sink and the attempts to listen share.

use std::collections::HashMap;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::listen::WakeupsStatus;
use super::stats::WakeupsStats;
use super::task::{TaskShared, WakeTask};
use crate::error::{Error, ErrorKind};
use crate::listener::RunningTask;
use crate::notification::Gap;
use crate::proto::supervisor::{PlacedGap, Scope, State};

#[derive(Debug)]
pub(super) struct WakeupsShared {
    /// Sorted by name.
    tasks: Vec<Arc<TaskShared>>,
    /// The tasks of each channel.
    by_channel: HashMap<Box<[u8]>, Vec<Arc<TaskShared>>>,
    session: Mutex<ListeningSession>,
    failed_attempts: AtomicU64,
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
        Self { tasks, by_channel, session, failed_attempts: AtomicU64::new(0) }
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
        self.set_session(ListeningSession::Attempting(error.brief()));
    }

    /// Ends every task, and returns the session.
    pub(super) fn close(&self) -> Option<RunningTask> {
        let session = mem::replace(&mut *self.session(), ListeningSession::Closed);
        self.tasks.iter().for_each(|task| task.close());
        match session {
            ListeningSession::Running(running) => Some(running),
            _ => None,
        }
    }

    // ---- losses ----

    fn tasks_in<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = &'a TaskShared> {
        self.tasks.iter().map(Arc::as_ref).filter(move |task| match scope {
            Scope::All => true,
            Scope::Channels(names) => names.iter().any(|name| task.channels().contains(name)),
        })
    }

    /// Holds back what follows, for the tasks in `scope`.
    pub(super) fn hold(&self, scope: &Scope) {
        self.tasks_in(scope).for_each(|task| task.lock().hold());
    }

    /// Adds the gaps to the tasks that they concern, and shows everything.
    pub(super) fn release(&self, gaps: Vec<PlacedGap>) {
        for PlacedGap { scope, gap, .. } in gaps {
            self.tasks_in(&scope).for_each(|task| task.lock().add_gap(Gap::clone(&gap)));
        }
        for task in &self.tasks {
            task.lock().release();
            task.wake();
        }
    }

    /// Discards what a session held back that has ended.
    pub(super) fn discard_held(&self) {
        self.tasks.iter().for_each(|task| task.lock().discard_held());
    }

    /// Wakes every task with a poll.
    pub(super) fn poll_now(&self) {
        for task in &self.tasks {
            task.lock().poll_now();
            task.wake();
        }
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
        match &*self.session() {
            ListeningSession::Attempting(reason) => Some(reason.clone()),
            ListeningSession::Running(running) => running.handle.last_error(),
            ListeningSession::Disabled | ListeningSession::Closed => None,
        }
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
