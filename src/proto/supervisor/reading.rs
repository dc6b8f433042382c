//! The delay of reads on the current link. [`ReadDelay`](crate::proto::session::ReadDelay) decides by how data arrives; here it
//! is decided when no read may wait at all.

use std::time::Instant;

use super::action::LinkId;
use super::{Sink, Supervisor};
use crate::proto::session::Session;

impl<S: Sink> Supervisor<S> {
    /// Handles the result of a read. `is_short` is true if the read has taken everything that had arrived, and the next one can
    /// be delayed.
    pub fn handle_read(&mut self, link: LinkId, bytes: usize, is_short: bool) {
        let now = self.common.now;
        if let Some(link) = self.common.links.current.as_mut().filter(|current| current.id == link)
        {
            link.read_delay.handle_read(now, bytes, is_short);
        }
    }

    /// Returns the instant before which this link should not be read. A driver whose timer is coarse may read earlier.
    ///
    /// `None`: it can be read now. No read waits while a command is unanswered or was not sent yet, in a handover, and while the
    /// listener is closing: a command that was not sent yet waits for one of these, and a drain and a close are commands.
    #[must_use]
    pub fn read_until(&self, link: LinkId) -> Option<Instant> {
        let links = &self.common.links;
        let link = links.live().filter(|current| current.id == link)?;
        let until = link.read_delay.until()?;
        let is_quiet = link.session().is_some_and(Session::is_idle)
            && link.self_notification.is_none()
            && links.next.is_none()
            && !self.handover.is_running()
            && !self.flow.is_stalled();
        is_quiet.then_some(until)
    }

    /// Handles the end of a delay: the link is read now.
    pub fn handle_read_due(&mut self, link: LinkId) {
        if self.read_until(link).is_some()
            && let Some(link) = &mut self.common.links.current
        {
            link.read_delay.handle_due(self.common.now);
            let count = &mut self.common.counters.reads_delayed;
            *count = count.saturating_add(1);
        }
    }
}
