//! The user's hook, as far as it can be simulated: it takes its time, and may fail.

use super::World;
use crate::supervisor::{Live, State};

#[derive(Debug, Default)]
pub(super) struct Hook {
    pub(super) number: u64,
    pub(super) running: Option<u64>,
    /// It has read the state since the last session was lost.
    pub(super) has_succeeded: bool,
    /// It was run at the start.
    has_begun: bool,
}

impl World {
    pub(super) fn hook_begins(&mut self, live: &Live) {
        if !self.plan.has_hook {
            return self.fail("a hook is run, and there is none");
        }
        if self.hook.running.is_some() {
            return self.fail("a hook is run while it runs");
        }
        // By the time this is carried out everything may have ended.
        if !self.sink.is_held && self.supervisor.state() != State::Closed {
            return self.fail("a hook is run while notifications are shown");
        }
        match live {
            Live::Start => self.hook.has_begun = true,
            Live::AfterGap(_) if !self.hook.has_begun => {
                return self.fail("the hook is told of a gap before the start");
            }
            Live::AfterGap(_) => {}
        }
        // By the time this is carried out the session may be lost again, or end.
        if self.supervisor.state() == State::Connected && !self.is_closing {
            self.check_channels("a hook is run");
        }
    }
}
