//! [`NudgeTarget`]: consumers of the same process, which nudges wake without the server.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::pending::Nudge;
use crate::net::SessionPlace;

/// A consumer of the same process.
pub(crate) trait NudgeTarget: Send + Sync + std::fmt::Debug {
    /// Handles a nudge, before it is sent. Returns false if the consumer has ended.
    fn nudged(&self, channel: &str, key: &str) -> bool;

    /// Handles that these nudges are sent. It is called before their notifications can arrive.
    fn sent(&self, source: &NudgeSource, nudges: &[Nudge]);

    /// Handles that these nudges, which were sent, are not committed.
    fn refused(&self, source: &NudgeSource, nudges: &[Nudge]);

    /// Handles the end of the session.
    fn session_ended(&self, source: &NudgeSource);
}

/// The session that sends nudges, if its process id is known, and no pooler may share it with other clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NudgeSource {
    pub(crate) process_id: i32,
    pub(crate) place: SessionPlace,
}

/// The consumers of a notifier. None is kept alive.
#[derive(Debug, Default)]
pub(super) struct NudgeTargets(Mutex<Arc<[NudgeTargetRef]>>);

type NudgeTargetRef = Weak<dyn NudgeTarget>;

impl NudgeTargets {
    pub(super) fn add(&self, target: &NudgeTargetRef) {
        let is_other = |one: &NudgeTargetRef| !one.ptr_eq(target);
        self.change(|targets| targets.filter(is_other).chain([target.clone()]).collect());
    }

    /// Calls `call` for each consumer, and removes those for which it returns false. Code of the user may run in it, so no lock is
    /// held.
    pub(super) fn each(&self, call: impl Fn(&dyn NudgeTarget) -> bool) {
        let targets = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_alive = |target: &NudgeTargetRef| target.upgrade().is_some_and(|one| call(&*one));
        let ended: Vec<_> = targets.iter().filter(|target| !is_alive(target)).collect();
        if !ended.is_empty() {
            let has_ended = |target: &NudgeTargetRef| ended.iter().any(|one| one.ptr_eq(target));
            self.change(|targets| targets.filter(|target| !has_ended(target)).collect());
        }
    }

    fn change(
        &self,
        change: impl FnOnce(&mut dyn Iterator<Item = NudgeTargetRef>) -> Arc<[NudgeTargetRef]>,
    ) {
        let mut targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut targets.iter().cloned());
        *targets = changed;
    }
}
