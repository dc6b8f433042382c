//! [`HubChannel`]: a channel of a hub, its subscriptions, and whether the session listens to it.
//!
//! ```text
//!              subscribe                     LISTEN answered
//!   (none) ─────────────▶ idle ─▶ listening ─────────────────▶ active ─┐ the last subscription
//!      ▲                   ▲          │ refused                  ▲     │ leaves
//!      │                   └──────────┘ (every waiting           │     ▼
//!      │                               subscription fails)       │  unlistening
//!      │                                                         │     │
//!      └──────────────── no subscription ◀── answered ───────────┼─────┘
//!                                                a new one ──▶ idle
//! ```
//! Whether the channel is wanted follows from its subscriptions, those that wait included. What was sent last is the listen state.
//! So a subscription that meets an UNLISTEN in flight waits for its answer, and LISTEN is sent after that. Active means that the
//! supervisor wants the channel: it listens again with every new session.
//! An active channel may be refused to a session. If another subscription asks for it, LISTEN is sent again (listening again), and
//! whatever the answer is, the channel is active afterwards. Answers may be handled late, when another session is up: a refusal that a
//! gap has reported since LISTEN was sent is not removed by its answer.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::mailbox::Mailbox;
use super::members::Members;
use crate::error::Error;

/// A channel that has subscriptions, or that the session still listens to.
#[derive(Debug)]
pub(super) struct HubChannel {
    /// Subscriptions to the whole channel.
    pub(super) plain: Members,
    /// Subscriptions to topics.
    pub(super) topics: HashMap<Arc<str>, Members>,
    /// The number of subscriptions, those that wait included.
    pub(super) subscriptions: usize,
    pub(super) listen: ListenState,
    /// The numbers of subscriptions that wait for LISTEN.
    pub(super) waiting: BTreeSet<u64>,
    /// Its place in the list of channels that may need a command.
    pub(super) change: Option<u64>,
    /// The error with which the server refuses it in the current session.
    pub(super) refusal: Option<Error>,
    /// A gap has reported it as refused since LISTEN was sent.
    pub(super) was_refused_meanwhile: bool,
}

/// What was sent last for a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListenState {
    /// Nothing: the session does not listen to it.
    Idle,
    /// LISTEN was sent, and the supervisor does not want the channel yet.
    Listening,
    /// LISTEN was sent again for a channel that was active, or is refused in this session.
    ListeningAgain,
    /// LISTEN was answered. The supervisor restores it.
    Active,
    /// UNLISTEN was sent.
    Unlistening,
}

/// A command that a channel needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needed {
    Listen,
    Unlisten,
    Nothing,
}

impl HubChannel {
    pub(super) fn new() -> Self {
        Self {
            plain: Members::default(),
            topics: HashMap::new(),
            subscriptions: 0,
            listen: ListenState::Idle,
            waiting: BTreeSet::new(),
            change: None,
            refusal: None,
            was_refused_meanwhile: false,
        }
    }

    /// Returns whether a subscription can join at once.
    pub(super) fn is_active(&self) -> bool {
        self.listen == ListenState::Active && self.refusal.is_none()
    }

    /// Returns the command that it needs next.
    pub(super) fn needed(&self) -> Needed {
        match self.listen {
            ListenState::Idle if self.subscriptions > 0 => Needed::Listen,
            ListenState::Active if self.subscriptions == 0 => Needed::Unlisten,
            // The server has refused it in this session, and another subscription asks for it. Another session may have been accepted
            // since then.
            ListenState::Active if !self.waiting.is_empty() => Needed::Listen,
            _ => Needed::Nothing,
        }
    }

    /// Returns true if nothing is left of it.
    pub(super) fn is_unused(&self) -> bool {
        self.subscriptions == 0 && self.listen == ListenState::Idle
    }

    /// Returns whether a subscription has joined it.
    pub(super) fn has_members(&self) -> bool {
        !(self.plain.is_empty() && self.topics.is_empty())
    }

    /// Adds a mailbox to the channel or to a topic.
    pub(super) fn join(&mut self, topic: Option<&Arc<str>>, mailbox: Arc<Mailbox>) {
        match topic {
            None => self.plain.add(mailbox),
            Some(topic) => self.topics.entry(topic.clone()).or_default().add(mailbox),
        }
    }

    /// Removes a mailbox. Returns whether it was a member.
    pub(super) fn leave(&mut self, topic: Option<&Arc<str>>, mailbox: &Arc<Mailbox>) -> bool {
        let Some(topic) = topic else { return self.plain.remove(mailbox) };
        let Some(members) = self.topics.get_mut(topic) else { return false };
        let was_member = members.remove(mailbox);
        if members.is_empty() {
            self.topics.remove(topic);
        }
        if self.topics.is_empty() {
            self.topics.shrink_to_fit();
        }
        was_member
    }

    /// Returns all mailboxes. A subscription to several topics would be returned for each.
    pub(super) fn mailboxes(&self) -> impl Iterator<Item = &Arc<Mailbox>> {
        let topics = self.topics.values().flat_map(Members::as_slice);
        self.plain.as_slice().iter().chain(topics)
    }
}
