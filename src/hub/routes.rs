//! [`Routes`]: the channels of a hub, and the subscriptions of each. The decisions about LISTEN and UNLISTEN are made here, without
//! I/O.
//!
//! Everything that concerns several subscriptions happens here, under one lock: to join and to leave, to put notifications into the
//! mailboxes, to hold back after a loss and to release. So a subscription that has joined before a loss gets the gap, and one that
//! joins later waits for the release and gets it too.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::mem;
use std::sync::Arc;
use std::task::Waker;
use std::time::SystemTime;

use tokio::sync::oneshot;

use super::channel::{HubChannel, ListenState, Needed};
use super::mailbox::Mailbox;
use crate::error::{Error, ErrorKind, contain};
use crate::notification::Gap;
use crate::proto::supervisor::{Listening, PlacedGap, Scope};
use crate::proto::wire::DbError;

/// The highest number of channels in one command.
const GROUP_CHANNELS: usize = 1_000;

/// What a subscription receives from: a channel, or a topic of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) channel: Arc<str>,
    pub(super) topic: Option<Arc<str>>,
}

/// The result of a subscribe.
pub(super) type Joined = Result<Listening, Error>;

/// A subscription that waits until every channel of it is active.
#[derive(Debug)]
struct Waiting {
    mailbox: Arc<Mailbox>,
    routes: Arc<[Route]>,
    /// The number of its channels that are not active.
    missing: usize,
    reply: oneshot::Sender<Joined>,
}

/// The channels whose LISTEN or UNLISTEN is sent next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) listen: Vec<Arc<str>>,
    pub(super) unlisten: Vec<Arc<str>>,
}

/// Replies that are sent, and consumers that are woken, without the lock.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Woken {
    replies: Vec<(oneshot::Sender<Joined>, Joined)>,
    pub(super) wakers: Vec<Waker>,
}

impl Woken {
    /// Wakes them. A waker is code of the user: a panic in it concerns no other subscription.
    pub(super) fn wake(&mut self) {
        for (reply, result) in self.replies.drain(..) {
            let _ = contain(|| drop(reply.send(result)));
        }
        for waker in self.wakers.drain(..) {
            let _ = contain(|| waker.wake());
        }
        // A gap wakes every subscription, and there may be very many.
        self.wakers.shrink_to(WAKERS_KEPT);
    }
}

/// The number of wakers for which memory is kept.
const WAKERS_KEPT: usize = 4_096;

/// The channels of a hub.
#[derive(Debug, Default)]
pub(super) struct Routes {
    pub(super) channels: HashMap<Arc<str>, HubChannel>,
    /// Channels that may need a command, in the order of their changes.
    changed: BTreeMap<u64, Arc<str>>,
    next_change: u64,
    /// Channels whose UNLISTEN was refused: they may need it with the next commands.
    postponed: Vec<Arc<str>>,
    /// Groups that are sent again in parts, because the server has refused one of their channels.
    divided: VecDeque<Vec<Arc<str>>>,
    /// The last group was one of those.
    was_divided: bool,
    waiting: HashMap<u64, Waiting>,
    next_number: u64,
    /// The number of subscriptions that have joined.
    pub(super) subscriptions: usize,
    /// Everything is held back, since a loss or until the hook has run.
    pub(super) is_held: bool,
    /// Channels of which what follows is held back. Also those without subscriptions: one may join before the loss is reported.
    held: HashSet<String>,
    /// The number of the last hold: see [`Place`](super::mailbox::Place).
    pub(super) hold: u32,
    /// Holds since the last release.
    holds: u32,
    /// The number of the current session.
    pub(super) epoch: u32,
    /// The answer to every subscribe: the hub drains or has ended.
    refusal: Option<Error>,
}

/// After this many holds without a release, gaps are merged, so their positions need not be kept apart.
const HOLDS_MAX: u32 = 65;

impl Routes {
    /// Returns whether a channel has subscriptions to topics.
    pub(super) fn has_topics(&self, channel: &[u8]) -> bool {
        let channel = std::str::from_utf8(channel).ok().and_then(|name| self.channels.get(name));
        channel.is_some_and(|channel| !channel.topics.is_empty())
    }

    // ---- subscriptions ----

    /// Adds a subscription. It joins at once if every channel of it is active. Otherwise it waits, and `reply` is answered; then
    /// this returns the number of the waiting subscription, and [`changes`](Self::changes) are to be sent.
    pub(super) fn subscribe(
        &mut self,
        mailbox: &Arc<Mailbox>,
        routes: &Arc<[Route]>,
        reply: oneshot::Sender<Joined>,
    ) -> Result<Subscribed, Error> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        let mut missing = 0;
        for Route { channel, .. } in routes.iter() {
            if !self.channels.contains_key(channel) {
                self.channels.insert(channel.clone(), HubChannel::new());
            }
            let Some(found) = self.channels.get_mut(channel) else { continue };
            found.subscriptions += 1;
            if !found.is_active() {
                missing += 1;
                found.waiting.insert(self.next_number);
            }
        }
        if missing == 0 {
            return Ok(Subscribed::Joined(self.join(mailbox, routes)));
        }
        let number = self.next_number;
        self.next_number += 1;
        let (mailbox, routes) = (mailbox.clone(), routes.clone());
        let names = routes.clone();
        self.waiting.insert(number, Waiting { mailbox, routes, missing, reply });
        for Route { channel, .. } in names.iter() {
            self.change(channel);
        }
        Ok(Subscribed::Waits(number))
    }

    /// Adds the mailbox to its channels and topics.
    fn join(&mut self, mailbox: &Arc<Mailbox>, routes: &[Route]) -> Listening {
        let mut is_held = false;
        for Route { channel, topic } in routes {
            if let Some(found) = self.channels.get_mut(channel) {
                found.join(topic.as_ref(), mailbox.clone());
                is_held |= self.held.contains(&**channel);
            }
        }
        self.subscriptions += 1;
        if is_held {
            mailbox.hold();
        }
        // Its first event is then the gap of this outage.
        if is_held || self.is_held { Listening::Pending } else { Listening::Active }
    }

    /// Removes a subscription that has joined, or that waits with this number. It does nothing if the wait has failed: the answer
    /// may be dropped unseen.
    pub(super) fn leave(&mut self, mailbox: &Arc<Mailbox>, routes: &[Route], number: Option<u64>) {
        let waited = number.filter(|number| self.waiting.remove(number).is_some());
        let mut has_joined = false;
        for Route { channel, topic } in routes {
            let Some(found) = self.channels.get_mut(channel) else { continue };
            match waited {
                Some(number) => {
                    found.waiting.remove(&number);
                }
                None if found.leave(topic.as_ref(), mailbox) => has_joined = true,
                None => continue,
            }
            found.subscriptions -= 1;
            if found.subscriptions == 0 {
                self.change(channel);
            }
        }
        self.subscriptions -= usize::from(has_joined);
    }

    // ---- commands ----

    /// Adds a channel to those that may need a command, with those whose UNLISTEN was postponed. One that is unused is forgotten.
    fn change(&mut self, channel: &Arc<str>) {
        let Some(found) = self.channels.get_mut(channel) else { return };
        if found.is_unused() {
            // A subscribe that was dropped while it waited leaves nothing behind.
            if let Some(change) = found.change {
                self.changed.remove(&change);
            }
            self.channels.remove(channel);
            return;
        }
        self.add_change(channel);
        for channel in mem::take(&mut self.postponed) {
            self.add_change(&channel);
        }
    }

    fn add_change(&mut self, channel: &Arc<str>) {
        if let Some(found) = self.channels.get_mut(channel).filter(|found| found.change.is_none()) {
            found.change = Some(self.next_change);
            self.changed.insert(self.next_change, channel.clone());
            self.next_change += 1;
        }
    }

    /// Returns true if there may be changes to send.
    pub(super) fn has_changes(&self) -> bool {
        !(self.changed.is_empty() && self.divided.is_empty())
    }

    /// Returns the next commands. They count as sent. Parts of a refused group and other changes take turns, because a group of many channels
    /// has many parts.
    pub(super) fn changes(&mut self) -> Changes {
        if self.was_divided {
            self.was_divided = false;
            let changes = self.new_changes();
            if changes != Changes::default() {
                return changes;
            }
        }
        match self.divided.pop_front() {
            Some(listen) => {
                // Those without a subscription are not wanted any more. They are listened to nevertheless, and then not any more.
                self.was_divided = true;
                Changes { listen, unlisten: Vec::new() }
            }
            None => self.new_changes(),
        }
    }

    /// Returns the commands that changed channels need.
    fn new_changes(&mut self) -> Changes {
        let mut changes = Changes::default();
        while changes.listen.len() + changes.unlisten.len() < GROUP_CHANNELS {
            let Some((_, channel)) = self.changed.pop_first() else { break };
            let Some(found) = self.channels.get_mut(&channel) else { continue };
            found.change = None;
            match found.needed() {
                Needed::Listen => {
                    found.listen = match found.listen {
                        ListenState::Active => ListenState::ListeningAgain,
                        _ => ListenState::Listening,
                    };
                    found.was_refused_meanwhile = false;
                    changes.listen.push(channel);
                }
                Needed::Unlisten => {
                    found.listen = ListenState::Unlistening;
                    changes.unlisten.push(channel);
                }
                Needed::Nothing if found.is_unused() => drop(self.channels.remove(&channel)),
                Needed::Nothing => {}
            }
        }
        changes
    }

    /// Handles the answer to LISTEN. If the server refuses one of several channels, they are sent again in parts.
    pub(super) fn listened(
        &mut self,
        mut channels: Vec<Arc<str>>,
        result: Result<(), Error>,
    ) -> Woken {
        let mut woken = Woken::default();
        match result {
            Ok(()) => {
                for channel in &channels {
                    self.is_active_now(channel, &mut woken);
                }
            }
            Err(error) if channels.len() > 1 && may_concern_one(&error) => {
                let second = channels.split_off(channels.len() / 2);
                self.divided.extend([channels, second]);
            }
            Err(error) => {
                let error = match error.kind() {
                    ErrorKind::Closed => error,
                    ErrorKind::Server if !has_ended_session(&error) => error,
                    // A lost session is replaced, and LISTEN is sent again: only the end of the hub is an answer.
                    _ => Error::caused(ErrorKind::Closed, "the hub has ended", error),
                };
                for channel in &channels {
                    self.is_refused(channel, &error, &mut woken);
                }
            }
        }
        woken
    }

    fn is_active_now(&mut self, channel: &Arc<str>, woken: &mut Woken) {
        let Some(found) = self.channels.get_mut(channel) else { return };
        found.listen = ListenState::Active;
        // The answer may be that of an earlier session than the refusal, or that of a later LISTEN.
        if mem::take(&mut found.was_refused_meanwhile) {
            return self.change(channel);
        }
        if let Some(refusal) = found.refusal.take() {
            // Those that had joined before have missed what was sent while the server refused the channel.
            let gap = Gap::within_session(refusal, SystemTime::now(), self.epoch);
            let gap = Arc::new(gap);
            for mailbox in found.mailboxes() {
                woken.wakers.extend(mailbox.mark_here(&gap, self.is_held));
            }
        }
        for number in mem::take(&mut found.waiting) {
            let Some(waiting) = self.waiting.get_mut(&number) else { continue };
            waiting.missing -= 1;
            if waiting.missing == 0 {
                self.end_wait(number, woken);
            }
        }
        // The last subscription may have left in the meantime.
        self.change(channel);
    }

    /// Lets a subscription join for which every channel was active at some time. If the server refuses one of them by now, it has not
    /// got the gap that reports this, and waits for that channel again.
    fn end_wait(&mut self, number: u64, woken: &mut Woken) {
        let Some(mut waiting) = self.waiting.remove(&number) else { return };
        for Route { channel, .. } in waiting.routes.iter() {
            let Some(found) = self.channels.get_mut(channel) else { continue };
            if !found.is_active() {
                found.waiting.insert(number);
                waiting.missing += 1;
                self.change(channel);
            }
        }
        if waiting.missing > 0 {
            self.waiting.insert(number, waiting);
            return;
        }
        let listening = self.join(&waiting.mailbox, &waiting.routes);
        woken.replies.push((waiting.reply, Ok(listening)));
    }

    fn is_refused(&mut self, channel: &Arc<str>, error: &Error, woken: &mut Woken) {
        let Some(found) = self.channels.get_mut(channel) else { return };
        // If it was active or refused before, others have joined it, and the supervisor listens to it with the next session.
        found.listen = match found.listen {
            ListenState::ListeningAgain => ListenState::Active,
            _ => ListenState::Idle,
        };
        for number in mem::take(&mut found.waiting) {
            self.fail(number, error, woken);
        }
        self.change(channel);
    }

    /// Ends the wait of a subscription with an error. It leaves nothing behind.
    fn fail(&mut self, number: u64, error: &Error, woken: &mut Woken) {
        let Some(waiting) = self.waiting.remove(&number) else { return };
        for Route { channel, .. } in waiting.routes.iter() {
            let Some(found) = self.channels.get_mut(channel) else { continue };
            found.waiting.remove(&number);
            found.subscriptions -= 1;
            self.change(channel);
        }
        woken.replies.push((waiting.reply, Err(error.clone())));
    }

    /// Handles the answer to UNLISTEN. If the server refuses it, it is sent again with the next command, because a repetition at once
    /// would be refused again.
    pub(super) fn unlistened(&mut self, channels: &[Arc<str>], result: &Result<(), Error>) {
        let is_refused = result.as_ref().is_err_and(|error| error.kind() != ErrorKind::Closed);
        for channel in channels {
            let Some(found) = self.channels.get_mut(channel) else { continue };
            if is_refused {
                found.listen = ListenState::Active;
                if found.subscriptions == 0 {
                    self.postponed.push(channel.clone());
                    continue;
                }
            } else {
                found.listen = ListenState::Idle;
                found.refusal = None;
            }
            self.change(channel);
        }
    }

    // ---- losses ----

    /// Holds back what follows, for the subscriptions in `scope`.
    pub(super) fn hold(&mut self, scope: &Scope) {
        if self.holds < HOLDS_MAX {
            self.holds += 1;
            self.hold = self.hold.wrapping_add(1) % u32::MAX;
        }
        match scope {
            Scope::All => self.is_held = true,
            Scope::Channels(channels) => {
                for channel in channels {
                    self.held.insert(channel.clone());
                    if let Some(found) = self.channels.get(channel.as_str()) {
                        found.mailboxes().for_each(|mailbox| mailbox.hold());
                    }
                }
            }
        }
    }

    /// Returns whether notifications for some subscription are held back.
    pub(super) fn holds_back(&self) -> bool {
        self.is_held || !self.held.is_empty()
    }

    /// Puts each gap at its position, and shows everything.
    pub(super) fn release(&mut self, gaps: Vec<PlacedGap>) -> Woken {
        let last = gaps.last().map(|last| last.gap.clone());
        self.epoch = last.as_ref().map_or(self.epoch, Gap::epoch);
        for PlacedGap { position, scope, gap } in gaps {
            let gap = Arc::new(gap);
            match scope {
                Scope::All => self.each(|mailbox| mailbox.mark(position.0, &gap)),
                Scope::Channels(names) => {
                    let mut marked: Vec<&Arc<Mailbox>> = names
                        .iter()
                        .filter_map(|name| self.channels.get(name.as_str()))
                        .flat_map(HubChannel::mailboxes)
                        .collect();
                    marked.sort_unstable_by_key(|mailbox| Arc::as_ptr(mailbox).addr());
                    marked.dedup_by_key(|mailbox| Arc::as_ptr(mailbox).addr());
                    marked.into_iter().for_each(|mailbox| mailbox.mark(position.0, &gap));
                }
            }
        }
        (self.is_held, self.holds) = (false, 0);
        self.held = HashSet::new();
        if let Some(gap) = last {
            self.set_refusals(&gap);
        }
        let mut woken = Woken::default();
        self.each(|mailbox| woken.wakers.extend(mailbox.release()));
        woken
    }

    /// Stores which channels the server refuses. Every other one is active.
    fn set_refusals(&mut self, gap: &Gap) {
        for channel in self.channels.values_mut() {
            channel.refusal = None;
        }
        for (name, error) in gap.refused() {
            if let Some(found) = self.channels.get_mut(name.as_str()) {
                found.refusal = Some(error.clone());
                found.was_refused_meanwhile = true;
            }
        }
    }

    /// Calls `call` once for each subscription that has joined.
    fn each(&self, mut call: impl FnMut(&Arc<Mailbox>)) {
        let mut several = Vec::new();
        for mailbox in self.channels.values().flat_map(HubChannel::mailboxes) {
            if mailbox.has_several_routes { several.push(mailbox) } else { call(mailbox) }
        }
        several.sort_unstable_by_key(|mailbox| Arc::as_ptr(mailbox).addr());
        several.dedup_by_key(|mailbox| Arc::as_ptr(mailbox).addr());
        several.into_iter().for_each(call);
    }

    // ---- the end ----

    /// Refuses every further subscription, and those that wait, with this error.
    pub(super) fn refuse(&mut self, error: &Error) -> Woken {
        let mut woken = Woken::default();
        self.refusal.get_or_insert_with(|| error.clone());
        for number in self.waiting.keys().copied().collect::<Vec<_>>() {
            self.fail(number, error, &mut woken);
        }
        woken
    }

    /// Returns true if subscriptions are refused.
    pub(super) fn is_refusing(&self) -> bool {
        self.refusal.is_some()
    }

    /// Ends the stream of every subscription. Returns the number of notifications that were held back and are dropped.
    pub(super) fn close(&mut self, error: &Error) -> (u64, Woken) {
        let (mut dropped, mut woken) = (0, self.refuse(error));
        self.each(|mailbox| {
            let (count, waker) = mailbox.close();
            dropped += count;
            woken.wakers.extend(waker);
        });
        (dropped, woken)
    }

    /// Returns the number of topics that have subscriptions.
    pub(super) fn topics(&self) -> usize {
        self.channels.values().map(|channel| channel.topics.len()).sum()
    }
}

/// Returns whether the server may have refused a group because of one of its channels, and not because of its own state.
fn may_concern_one(error: &Error) -> bool {
    let is_of_state = |code: &str| {
        code != CANCELLED && code.get(..2).is_some_and(|class| STATE_CLASSES.contains(&class))
    };
    let is_of_state = error.sqlstate().is_some_and(is_of_state);
    error.kind() == ErrorKind::Server && !is_of_state && !has_ended_session(error)
}

/// Returns whether the error is no answer to LISTEN: the server has ended the session with it.
fn has_ended_session(error: &Error) -> bool {
    error.db_error().is_some_and(DbError::is_fatal)
}

/// The classes of SQLSTATE that say that the server or the session cannot execute any LISTEN at present: feature not supported, invalid
/// transaction state, failed transaction, insufficient resources, not in the prerequisite state, operator intervention, system error.
const STATE_CLASSES: [&str; 7] = ["0A", "25", "40", "53", "55", "57", "58"];

/// The SQLSTATE of a statement that has exceeded `statement_timeout`: fewer channels take less time.
const CANCELLED: &str = "57014";

/// The result of [`Routes::subscribe`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Subscribed {
    Joined(Listening),
    /// The subscription waits, with this number.
    Waits(u64),
}

#[cfg(all(test, feature = "testing"))]
impl Routes {
    /// Returns whether a channel is in the list of those that may need a command.
    pub(super) fn is_changed(&self, channel: &str) -> bool {
        self.changed.values().any(|changed| **changed == *channel)
    }

    /// Returns whether the UNLISTEN of a channel was refused.
    pub(super) fn is_postponed(&self, channel: &str) -> bool {
        self.postponed.iter().any(|postponed| **postponed == *channel)
    }

    /// Returns the routes of each subscription that waits.
    pub(super) fn waiting_routes(&self) -> impl Iterator<Item = &[Route]> {
        self.waiting.values().map(|waiting| &*waiting.routes)
    }
}
