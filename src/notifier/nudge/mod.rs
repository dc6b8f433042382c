//! Nudges: wake-ups outside of the writer's transaction, over a session of their own.
//!
//! ```text
//! nudge ─▶ PendingNudges: each (channel, key) once ─▶ NudgeMachine ─▶ NudgeTask ─▶ its session
//!    └───▶ NudgeTarget: Wakeups of this process
//! ```

mod machine;
mod pending;
mod shared;
mod stats;
mod target;
mod task;

use std::sync::{Arc, Weak};

pub(super) use self::machine::NudgePolicy;
#[cfg(test)]
pub(super) use self::machine::{NudgeAction, NudgeMachine};
pub(crate) use self::pending::Nudge;
#[cfg(test)]
pub(super) use self::pending::{Added, NudgeLimits, PendingNudges};
use self::shared::NudgeShared;
pub(super) use self::shared::NudgeStart;
use self::stats::NudgeCounts;
pub(crate) use self::target::{NudgeSource, NudgeTarget};
use crate::error::Error;

/// The nudges of a notifier, shared by its clones.
#[derive(Debug, Clone)]
pub(super) struct Nudges(Arc<NudgeOwner>);

/// The clones of a notifier. When the last one is dropped, what waits is sent in the background.
#[derive(Debug)]
struct NudgeOwner(Arc<NudgeShared>);

impl Nudges {
    pub(super) fn new(start: NudgeStart) -> Self {
        Self(Arc::new(NudgeOwner(Arc::new(NudgeShared::new(start)))))
    }

    fn shared(&self) -> &Arc<NudgeShared> {
        &self.0.0
    }

    pub(super) fn nudge(&self, channel: &str, key: &str) {
        self.shared().nudge(channel, key);
    }

    /// Accepts nothing more, and sends what waits. The future waits for the end.
    pub(super) fn close(&self) -> impl Future<Output = ()> + use<> {
        let closed = self.shared().close();
        async move {
            let _ = closed.await;
        }
    }

    /// Wakes `target` by all further nudges.
    pub(super) fn attach(&self, target: &Weak<dyn NudgeTarget>) {
        self.shared().targets.add(target);
    }

    pub(super) fn counts(&self) -> NudgeCounts {
        self.shared().counts()
    }

    pub(super) fn last_error(&self) -> Option<Error> {
        self.shared().last_error()
    }
}

impl Drop for NudgeOwner {
    fn drop(&mut self) {
        drop(self.0.close());
    }
}
