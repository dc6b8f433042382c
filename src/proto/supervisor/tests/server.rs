//! The server of a [`TestDriver`]: its commands and its answers.

use super::*;
use crate::proto::supervisor::heartbeat_query::{HEARTBEAT_ANSWER_SQL, HEARTBEAT_COUNT_SQL};
use crate::proto::wire::{FirstPacket, Framer, FrontendMessage};

/// The server's end of a link.
#[derive(Default)]
pub(super) struct Wire {
    /// The bytes that were read and not yet handled.
    pub(super) input: BytesMut,
    pub(super) sent: Vec<u8>,
    pub(super) unread: bool,
    /// The channels that the server has confirmed.
    pub(super) listening: BTreeSet<String>,
}

impl Wire {
    pub(super) fn reading(&self) -> bool {
        !self.unread
    }
}

impl TestDriver {
    /// Takes the text of the queries that were sent, and the names of other messages.
    pub(super) fn take_sent(&mut self) -> Vec<String> {
        let sent = std::mem::take(&mut self.wire().sent);
        let mut rest = &sent[..];
        let mut lines = Vec::new();
        if let Some(0) = rest.first() {
            let packet = FirstPacket::next(rest).unwrap().unwrap();
            rest = &rest[packet.wire_len()..];
            lines.push("startup".to_owned());
        }
        while !rest.is_empty() {
            let frame = Framer::frontend().next(rest).unwrap().expect("whole messages only");
            match FrontendMessage::decode(frame).unwrap() {
                FrontendMessage::Query(HEARTBEAT_SQL) => lines.push("heartbeat".to_owned()),
                FrontendMessage::Query(HEARTBEAT_COUNT_SQL) => lines.push("count".to_owned()),
                FrontendMessage::Query(HEARTBEAT_ANSWER_SQL) => lines.push("life".to_owned()),
                FrontendMessage::Query(sql) => {
                    if let Some((_, name)) = sql.split_once("LISTEN \"pgbell_")
                        && !sql.starts_with("UN")
                    {
                        self.private = format!("pgbell_{}", name.trim_end_matches('"'));
                    }
                    lines.push(sql.replace(&self.private, "private"));
                }
                FrontendMessage::Bind { parameters, .. } => {
                    let text: Vec<&str> = parameters
                        .iter()
                        .map(|value| std::str::from_utf8(value.unwrap()).unwrap())
                        .collect();
                    self.private = text[0].to_owned();
                    self.nonce = text[1].to_owned();
                    lines.push("notify".to_owned());
                }
                FrontendMessage::Parse { .. }
                | FrontendMessage::Describe { .. }
                | FrontendMessage::Execute { .. }
                | FrontendMessage::Sync => {}
                other => lines.push(other.name().to_owned()),
            }
            rest = &rest[frame.wire_len()..];
        }
        lines
    }

    /// Answers everything that was sent, and returns it.
    pub(super) fn serve(&mut self) -> Vec<String> {
        let lines = self.take_sent();
        for line in &lines {
            let answer = self.answer(line);
            self.read(&answer);
        }
        lines
    }

    /// Returns the answer of a correct server. The test itself sends the fence notification.
    pub(super) fn answer(&mut self, line: &str) -> Vec<u8> {
        let private = self.private.clone();
        let name = |quoted: &str| quoted.trim_matches('"').replace("private", &private);
        let names = |verb: &str| line.split(';').map(|one| name(&one[verb.len()..])).collect();
        if line.starts_with("LISTEN ") {
            let names: Vec<String> = names("LISTEN ");
            if names.iter().any(|name| self.refused.contains(name)) {
                return [ERROR, READY].concat();
            }
            let count = names.len();
            self.wire().listening.extend(names);
            [&LISTEN.repeat(count), READY].concat()
        } else if line == "UNLISTEN *" {
            self.wire().listening.clear();
            [UNLISTEN, READY].concat()
        } else if line.starts_with("UNLISTEN ") {
            let names: Vec<String> = names("UNLISTEN ");
            self.wire().listening.retain(|name| !names.contains(name));
            [&UNLISTEN.repeat(names.len()), READY].concat()
        } else if line == "heartbeat" {
            heartbeat_answer(&self.wire().listening)
        } else if line == "count" {
            let count = self.wire().listening.len().to_string();
            [row(&[Some(&count)]), READY.to_vec()].concat()
        } else if line == "life" {
            [row(&[Some("pgbell")]), READY.to_vec()].concat()
        } else if line == "notify" {
            notified()
        } else if line == "startup" || line == "Terminate" {
            Vec::new()
        } else {
            assert!(matches!(line, "SELECT 1" | "ROLLBACK"), "{line}");
            [SELECT, READY].concat()
        }
    }

    /// Returns the fence notification of the handover.
    pub(super) fn fence(&self) -> Vec<u8> {
        notification_on(&self.private, &self.nonce)
    }

    /// Answers until nothing more is sent.
    pub(super) fn serve_all(&mut self) -> Vec<Vec<String>> {
        std::iter::from_fn(|| Some(self.serve()).filter(|lines| !lines.is_empty())).collect()
    }

    /// Creates a driver whose listener is connected, with empty logs.
    pub(super) fn up(policy: Policy) -> Self {
        let mut driver = Self::new(policy);
        driver.open();
        driver.serve_all();
        if driver.supervisor.state() == State::CatchingUp {
            driver.hook(Ok(()));
        }
        assert_eq!(driver.supervisor.state(), State::Connected);
        driver.clear_logs();
        driver
    }

    /// Empties the logs.
    pub(super) fn clear_logs(&mut self) {
        (self.log, self.logged) = (Vec::new(), Vec::new());
        self.supervisor.sink.log.clear();
        self.supervisor.sink.gaps.clear();
    }

    /// Breaks the session, and waits until the next attempt has begun.
    pub(super) fn break_and_reopen(&mut self) {
        self.event(broken());
        self.pass_until_due();
    }

    /// Waits for the next attempt, which succeeds.
    pub(super) fn reopen(&mut self) {
        self.pass_until_due();
        self.open();
    }

    /// Breaks the session or the attempt, and opens the next session.
    pub(super) fn reconnect(&mut self) {
        self.break_and_reopen();
        self.open();
    }

    /// Begins a handover, and opens the new session.
    pub(super) fn rotate_to(&mut self, new: u32) {
        self.command(Command::Rotate);
        self.on(new).open();
    }

    /// Prepares both sessions of a handover. The fence is sent, and not answered.
    pub(super) fn prepare(&mut self, old: u32, new: u32) {
        self.rotate_to(new);
        self.on(old).serve();
        self.on(new).serve();
    }

    /// Answers the fence, and sends it to the new session and then to the old one.
    pub(super) fn exchange(&mut self, old: u32) {
        self.serve();
        let fence = self.fence();
        self.read(&fence);
        self.on(old).read(&fence);
    }
}
