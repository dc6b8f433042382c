//! The links of a listener, by their role.
//!
//! ```text
//! open ─▶ current ◀── next ◀─ open for a handover
//!            │ replaced by next
//!            ▼
//!           old ─▶ closed
//! ```

use super::action::LinkId;
use super::link::ListenerLink;
use crate::proto::session::Session;

#[derive(Debug, Default)]
pub(super) struct Links {
    /// The link whose notifications are delivered.
    pub(super) current: Option<ListenerLink>,
    /// The link of the new session of a handover.
    pub(super) next: Option<ListenerLink>,
    /// The link of the old session of a handover, which is being closed.
    pub(super) old: Option<ListenerLink>,
    /// The number of links so far.
    pub(super) opened: u32,
}

/// The role of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Current,
    Next,
    Old,
}

impl Links {
    /// Returns the id of a new link.
    pub(super) fn new_id(&mut self) -> LinkId {
        self.opened = self.opened.saturating_add(1);
        LinkId(self.opened)
    }

    pub(super) fn role(&self, id: LinkId) -> Option<Role> {
        let is = |link: &Option<ListenerLink>| link.as_ref().is_some_and(|link| link.id == id);
        match () {
            () if is(&self.current) => Some(Role::Current),
            () if is(&self.next) => Some(Role::Next),
            () if is(&self.old) => Some(Role::Old),
            () => None,
        }
    }

    pub(super) fn get(&mut self, role: Role) -> Option<&mut ListenerLink> {
        match role {
            Role::Current => self.current.as_mut(),
            Role::Next => self.next.as_mut(),
            Role::Old => self.old.as_mut(),
        }
    }

    /// Returns the current or the next link.
    pub(super) fn find(&mut self, id: LinkId) -> Option<&mut ListenerLink> {
        [&mut self.current, &mut self.next].into_iter().flatten().find(|link| link.id == id)
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut ListenerLink> {
        [&mut self.current, &mut self.next, &mut self.old].into_iter().flatten()
    }

    pub(super) fn current_id(&self) -> Option<LinkId> {
        self.current.as_ref().map(|link| link.id)
    }

    /// Returns the session of the current link.
    pub(super) fn session(&self) -> Option<&Session> {
        self.current.as_ref().and_then(ListenerLink::session)
    }

    /// Returns the current link, if every wanted channel is active on it or refused.
    pub(super) fn live(&self) -> Option<&ListenerLink> {
        self.current.as_ref().filter(|link| link.is_live())
    }
}
