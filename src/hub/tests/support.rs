//! What the tests have in common: routes that are driven by hand, as the keeper and the sink do.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use super::super::mailbox::{Limits, Mailbox, MailboxSource};
use super::super::routes::{Changes, Joined, Route, Routes, Subscribed};
use crate::error::{Error, ErrorKind};
use crate::notification::{Gap, ReceiveInfo, Refusals};
use crate::proto::ring::Taken;
use crate::proto::supervisor::{Listening, PlacedGap, Scope, StreamPosition};
use crate::proto::wire::{BackendMessage, DbError, RawNotification, Run, Severity};
use crate::queue::Source;

/// The routes of a hub.
pub(super) struct Driven(pub(super) Routes);

/// A subscription, and the answer that it waits for.
pub(super) struct DrivenSubscription {
    pub(super) mailbox: Arc<Mailbox>,
    routes: Arc<[Route]>,
    number: Option<u64>,
    joined: Option<Listening>,
    answer: oneshot::Receiver<Joined>,
}

impl DrivenSubscription {
    /// Returns the result of the subscribe. `None`: it waits.
    pub(super) fn result(&mut self) -> Option<Result<Listening, ErrorKind>> {
        if self.joined.is_none() {
            let answer = self.answer.try_recv().ok()?;
            match answer {
                Ok(listening) => self.joined = Some(listening),
                Err(error) => return Some(Err(error.kind())),
            }
        }
        self.joined.map(Ok)
    }

    /// Takes the next element: `gap`, `lost 2 from 0` or `item 2 from 0`.
    pub(super) fn take(&self) -> String {
        take(&self.mailbox)
    }
}

/// Takes a gap, and returns the session that it names.
pub(super) fn take_epoch(mailbox: &Arc<Mailbox>) -> u32 {
    match MailboxSource::new(mailbox.clone()).try_take() {
        Taken::Mark(gap) => gap.epoch(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn take(mailbox: &Arc<Mailbox>) -> String {
    match MailboxSource::new(mailbox.clone()).try_take() {
        Taken::Item { value, first, .. } => format!("item {} from {first}", value.count()),
        Taken::Lost { first, count } => format!("lost {count} from {first}"),
        Taken::Mark(gap) => format!("gap {}", gap.sessions()),
        Taken::Empty => "empty".to_owned(),
        Taken::Closed => "closed".to_owned(),
    }
}

impl Driven {
    pub(super) fn new() -> Self {
        Self(Routes::default())
    }

    pub(super) fn subscribe(&mut self, channels: &[&str]) -> DrivenSubscription {
        let route = |name: &&str| Route { channel: (*name).into(), topic: None };
        let routes: Arc<[Route]> = channels.iter().map(route).collect();
        let mailbox = Arc::new(Mailbox::new(Limits::default(), None, channels.len() > 1));
        let (reply, answer) = oneshot::channel();
        let (number, joined) = match self.0.subscribe(&mailbox, &routes, reply).unwrap() {
            Subscribed::Joined(listening) => (None, Some(listening)),
            Subscribed::Waits(number) => (Some(number), None),
        };
        DrivenSubscription { mailbox, routes, number, joined, answer }
    }

    pub(super) fn leave(&mut self, subscription: &DrivenSubscription) {
        self.0.leave(&subscription.mailbox, &subscription.routes, subscription.number);
    }

    /// Returns the next commands: the channels of LISTEN, and those of UNLISTEN, sorted.
    pub(super) fn commands(&mut self) -> (Vec<String>, Vec<String>) {
        let Changes { listen, unlisten } = self.0.changes();
        let sorted = |names: Vec<Arc<str>>| {
            let mut names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            names.sort_unstable();
            names
        };
        (sorted(listen), sorted(unlisten))
    }

    /// Sends LISTEN for these channels, and no other command.
    pub(super) fn sends_listen(&mut self, channels: &[&str]) {
        assert_eq!(self.commands(), (owned(channels), Vec::new()));
    }

    /// Sends UNLISTEN for these channels, and no other command.
    pub(super) fn sends_unlisten(&mut self, channels: &[&str]) {
        assert_eq!(self.commands(), (Vec::new(), owned(channels)));
    }

    pub(super) fn sends_nothing(&mut self) {
        assert_eq!(self.commands(), (Vec::new(), Vec::new()));
    }

    pub(super) fn listened(&mut self, channels: &[&str]) {
        self.0.listened(arcs(channels), Ok(())).wake();
    }

    pub(super) fn is_refused(&mut self, channels: &[&str]) {
        self.0.listened(arcs(channels), Err(refusal())).wake();
    }

    /// The server refuses LISTEN with this SQLSTATE.
    pub(super) fn is_refused_with(&mut self, channels: &[&str], sqlstate: &str) {
        let fields = DbError::new(Severity::Error, sqlstate, "no");
        let refusal = Error::server("the server refused", fields);
        self.0.listened(arcs(channels), Err(refusal)).wake();
    }

    /// The server ends the only session before LISTEN is answered.
    pub(super) fn ends_with(&mut self, channels: &[&str], sqlstate: &str) {
        let fields = DbError::new(Severity::Fatal, sqlstate, "no");
        let end = Error::server("the server ended the session", fields);
        self.0.listened(arcs(channels), Err(end)).wake();
    }

    /// The hub ends before LISTEN is answered.
    pub(super) fn ends(&mut self, channels: &[&str], kind: ErrorKind) {
        self.0.listened(arcs(channels), Err(Error::new(kind, "the session was lost"))).wake();
    }

    pub(super) fn unlistened(&mut self, channels: &[&str]) {
        self.0.unlistened(&arcs(channels), &Ok(()));
    }

    /// Returns an active subscription to these channels.
    pub(super) fn subscribed(&mut self, channels: &[&str]) -> DrivenSubscription {
        let mut subscription = self.subscribe(channels);
        self.sends_listen(channels);
        self.listened(channels);
        assert_eq!(subscription.result(), Some(Ok(Listening::Active)));
        subscription
    }

    pub(super) fn session_is_lost(&mut self) {
        self.0.hold(&Scope::All);
    }

    /// Ends the outage, which began at this position. The new session is refused these channels.
    pub(super) fn session_is_restored(&mut self, position: u64, refused: &[&str]) {
        let gap = placed(position, Scope::All, refused);
        self.0.release(vec![gap]).wake();
    }

    /// Checks that nothing is left.
    pub(super) fn is_empty(&mut self) {
        assert!(!self.0.has_changes() || self.commands() == (Vec::new(), Vec::new()));
        assert_eq!((self.0.channels.len(), self.0.subscriptions), (0, 0), "{:?}", self.0.channels);
    }
}

pub(super) fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn arcs(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|&name| name.into()).collect()
}

pub(super) fn refusal() -> Error {
    Error::new(ErrorKind::Server, "permission denied")
}

/// Returns a gap of one lost session at this position.
pub(super) fn placed(position: u64, scope: Scope, refused: &[&str]) -> PlacedGap {
    let refusals = Refusals::default();
    refusals.set(refused.iter().map(|&name| (name.to_owned(), refusal())).collect());
    let cause = Error::new(ErrorKind::Connect, "lost");
    let now = SystemTime::UNIX_EPOCH;
    let gap = Gap::new(cause, now, 1).restored(now, 1, 2, refusals);
    PlacedGap { position: StreamPosition(position), scope, gap }
}

pub(super) fn info() -> ReceiveInfo {
    ReceiveInfo { received_at: SystemTime::UNIX_EPOCH, epoch: 1 }
}

/// Returns notifications of a channel, each with this payload.
pub(super) fn frames(channel: &str, count: usize, payload: &str) -> (Bytes, Run) {
    let mut bytes = BytesMut::new();
    for _ in 0..count {
        let raw = RawNotification {
            process_id: 7,
            channel: channel.as_bytes(),
            payload: payload.as_bytes(),
        };
        BackendMessage::NotificationResponse(raw).encode(&mut bytes).unwrap();
    }
    let run = Run { count, bytes: bytes.len() };
    (bytes.freeze(), run)
}
