//! A model of two servers, whose sessions are killed and whose process ids are used again: no notification of another program is taken for
//! an echo, and no echo wakes twice.
//!
//! ```text
//! nudge ─▶ sent: expected ─▶ its server ─ committed ─▶ stream of the listening session ─▶ echo, or wakes
//! other programs ──────────────────────── committed ─┘
//! ```

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const SERVERS: usize = 2;
const PROCESS_IDS: i32 = 3;
const KEYS: u8 = 3;

#[derive(Debug, Clone)]
enum Step {
    /// A nudge is made and sent.
    Nudge(u8),
    /// The server commits what was sent, and the notifier gets the answer.
    Commit,
    /// The server refuses it.
    Refuse,
    /// The session of the notifier ends, before or after the commit. The notifier notices it at the next step of its kind.
    Kill { is_committed: bool },
    /// It is noticed, and the next session is opened on this server with a free process id.
    Reconnect(usize),
    /// Another program notifies on a server, with a process id that no session there has.
    Other { server: usize, process_id: i32, key: u8 },
    /// The listening session is lost, with everything that it has not received.
    LoseListener,
    /// It listens again, on this server.
    Listen(usize),
    /// It takes over without a gap, in a session on the same server.
    TakeOver,
    /// The next notification of its stream arrives.
    Deliver,
}

fn step() -> impl Strategy<Value = Step> {
    let server = 0..SERVERS;
    prop_oneof![
        8 => (0..KEYS).prop_map(Step::Nudge),
        8 => Just(Step::Commit),
        1 => Just(Step::Refuse),
        2 => any::<bool>().prop_map(|is_committed| Step::Kill { is_committed }),
        4 => server.clone().prop_map(Step::Reconnect),
        8 => (server.clone(), 0..PROCESS_IDS, 0..KEYS)
            .prop_map(|(server, process_id, key)| Step::Other { server, process_id, key }),
        1 => Just(Step::LoseListener),
        4 => server.prop_map(Step::Listen),
        1 => Just(Step::TakeOver),
        12 => Just(Step::Deliver),
    ]
}

/// What has sent a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// A nudge, which has woken the workers when it was made. `is_certain`: it was sent once, while the session listened.
    Nudge {
        is_certain: bool,
    },
    Other,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    origin: Origin,
    process_id: i32,
    key: u8,
}

/// The session of the notifier.
#[derive(Debug)]
struct NotifierSession {
    server: usize,
    process_id: i32,
    is_killed: bool,
}

#[derive(Debug)]
struct Model {
    echoes: Echoes,
    session: NotifierSession,
    /// What the notifier has sent, and what is not confirmed: it is sent again by the next session.
    in_flight: Option<(Sent, bool)>,
    unconfirmed: VecDeque<u8>,
    /// The server of the listening session.
    listener: Option<usize>,
    stream: VecDeque<Sent>,
    /// The keys of notifications of other programs that were taken for echoes, because the session of the notifier is dead and that is not
    /// noticed yet. Its nudge is sent again, and wakes.
    swallowed: Vec<u8>,
}

fn nudge(key: u8) -> Nudge {
    Nudge { channel: "a".into(), key: key.to_string().into() }
}

fn place(server: usize) -> SessionPlace {
    let port = 5_432 + u16::try_from(server).unwrap();
    SessionPlace::tcp(([127, 0, 0, 1], port).into(), "shop")
}

impl Model {
    fn new() -> Self {
        let session = NotifierSession { server: 0, process_id: 0, is_killed: false };
        Self {
            echoes: Echoes::default(),
            session,
            in_flight: None,
            unconfirmed: VecDeque::new(),
            listener: None,
            stream: VecDeque::new(),
            swallowed: Vec::new(),
        }
    }

    fn source(&self) -> NudgeSource {
        NudgeSource { process_id: self.session.process_id, place: place(self.session.server) }
    }

    /// Sends a nudge, unless one is in flight.
    fn send(&mut self, key: u8, is_repeat: bool) {
        if self.in_flight.is_some() {
            return self.unconfirmed.push_back(key);
        }
        if !is_repeat {
            self.echoes.expect(&self.source(), [nudge(key)].iter(), now());
        }
        let process_id = self.session.process_id;
        // One that is not expected any more is taken for this one, which wakes then.
        let is_alone = self.stream.iter().all(|sent| {
            let is_uncertain = sent.origin == Origin::Nudge { is_certain: false };
            !is_uncertain || sent.process_id != process_id || sent.key != key
        });
        let listens_there = self.listener == Some(self.session.server);
        let is_certain = !is_repeat && is_alone && listens_there;
        let sent = Sent { origin: Origin::Nudge { is_certain }, process_id, key };
        self.in_flight = Some((sent, is_repeat));
    }

    fn commit(&mut self, server: usize, sent: Sent) {
        if self.listener == Some(server) {
            self.stream.push_back(sent);
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Nudge(key) => self.send(key, false),
            Step::Commit if !self.session.is_killed => {
                if let Some((sent, _)) = self.in_flight.take() {
                    self.commit(self.session.server, sent);
                }
                if let Some(key) = self.unconfirmed.pop_front() {
                    self.send(key, false);
                }
            }
            Step::Refuse if !self.session.is_killed && self.swallowed.is_empty() => {
                if let Some((sent, _)) = self.in_flight.take() {
                    self.echoes.refused(&self.source(), &[nudge(sent.key)], now());
                }
            }
            Step::Kill { is_committed } if !self.session.is_killed => {
                self.session.is_killed = true;
                if let Some((sent, _)) = self.in_flight.filter(|_| is_committed) {
                    self.commit(self.session.server, sent);
                }
            }
            Step::Reconnect(server) if self.session.is_killed => {
                // No process id is that of two sessions in the short time in which a notification is transmitted.
                let is_free = |id: &i32| self.stream.iter().all(|sent| sent.process_id != *id);
                let Some(process_id) = (0..PROCESS_IDS).find(is_free) else { return Ok(()) };
                self.echoes.session_ended(self.session.process_id);
                self.session = NotifierSession { server, process_id, is_killed: false };
                if self.listener != Some(server) {
                    // What is sent again goes elsewhere: the interval finds it.
                    self.swallowed.clear();
                }
                if let Some((sent, _)) = self.in_flight.take() {
                    self.send(sent.key, true);
                }
            }
            Step::Other { server, process_id, key } => {
                let has_it = self.session.server == server && self.session.process_id == process_id;
                if !has_it || self.session.is_killed {
                    self.commit(server, Sent { origin: Origin::Other, process_id, key });
                }
            }
            Step::LoseListener => self.lose_listener(),
            Step::Listen(server) => {
                self.lose_listener();
                self.listener = Some(server);
                self.echoes.listens_at(Some(place(server)));
            }
            Step::TakeOver => {
                if let Some(server) = self.listener {
                    self.echoes.listens_at(Some(place(server)));
                    // What was sent before wakes once more.
                    self.forget_certainty();
                }
            }
            Step::Deliver => self.deliver()?,
            Step::Commit | Step::Refuse | Step::Kill { .. } | Step::Reconnect(_) => {}
        }
        Ok(())
    }

    fn lose_listener(&mut self) {
        self.listener = None;
        self.stream.clear();
        self.echoes.listens_at(None);
        // A loss wakes all workers.
        self.swallowed.clear();
        self.forget_certainty();
    }

    fn forget_certainty(&mut self) {
        let in_flight = self.in_flight.iter_mut().map(|(sent, _)| sent);
        for sent in self.stream.iter_mut().chain(in_flight) {
            if let Origin::Nudge { is_certain } = &mut sent.origin {
                *is_certain = false;
            }
        }
    }

    fn deliver(&mut self) -> Result<(), TestCaseError> {
        let Some(Sent { origin, process_id, key }) = self.stream.pop_front() else { return Ok(()) };
        let mut found = Vec::new();
        let payload = key.to_string();
        let arrived = [(process_id, payload.as_bytes())];
        self.echoes.recognize(b"a", arrived.into_iter(), now(), &mut found);
        let is_echo = found.first().copied().unwrap_or(false);
        if !is_echo {
            self.swallowed.retain(|one| *one != key);
        }
        match origin {
            Origin::Nudge { is_certain: true } if !self.session.is_killed => {
                let is_of_this_session = process_id == self.session.process_id;
                prop_assert!(is_echo || !is_of_this_session, "an echo wakes twice: {:?}", self);
            }
            Origin::Nudge { .. } => {}
            Origin::Other if is_echo => {
                // Only the process id of a dead session, before that is noticed.
                let is_dead = self.session.is_killed && process_id == self.session.process_id;
                prop_assert!(is_dead, "a notification of another program is lost: {:?}", self);
                self.swallowed.push(key);
            }
            Origin::Other => {}
        }
        Ok(())
    }
}

proptest! {
    /// What is swallowed because the death of a session is not noticed yet is the key of a nudge that is sent again, and wakes then.
    #[test]
    fn no_notification_of_another_program_is_taken_for_an_echo(
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step)?;
        }
        while !model.stream.is_empty() {
            model.step(&Step::Deliver)?;
        }
        model.step(&Step::Reconnect(model.listener.unwrap_or(0)))?;
        while model.in_flight.is_some() {
            model.step(&Step::Commit)?;
            model.step(&Step::Deliver)?;
        }
        prop_assert!(model.swallowed.is_empty(), "nothing wakes for {:?}", model);
    }
}
