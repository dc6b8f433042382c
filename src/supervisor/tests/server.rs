//! The server's side of a [`Shell`]: what it is asked, and what it answers.

use super::*;
use crate::wire::{FirstPacket, Framer, FrontendMessage};

/// A link, as its server sees it.
#[derive(Default)]
pub(super) struct Wire {
    /// What was read and not yet handled.
    pub(super) input: BytesMut,
    pub(super) sent: Vec<u8>,
    pub(super) unread: bool,
    /// What the server has confirmed.
    pub(super) listening: BTreeSet<String>,
}

impl Wire {
    pub(super) fn reading(&self) -> bool {
        !self.unread
    }
}

impl Shell {
    /// The text of the queries that were sent, and the names of other messages.
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
                FrontendMessage::Query(PROOF_SQL) => lines.push("proof".to_owned()),
                FrontendMessage::Query(PROOF_COUNT_SQL) => lines.push("count".to_owned()),
                FrontendMessage::Query(PROOF_OF_LIFE_SQL) => lines.push("life".to_owned()),
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

    /// The server carries out everything that was sent to it. Says what that was.
    pub(super) fn serve(&mut self) -> Vec<String> {
        let lines = self.take_sent();
        for line in &lines {
            let answer = self.answer(line);
            self.read(&answer);
        }
        lines
    }

    /// What an honest server answers. The fence is left to the test.
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
        } else if line == "proof" {
            proof(&self.wire().listening)
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

    /// The fence of the handover.
    pub(super) fn fence(&self) -> Vec<u8> {
        note_on(&self.private, &self.nonce)
    }

    /// Until nothing more is sent.
    pub(super) fn serve_all(&mut self) -> Vec<Vec<String>> {
        std::iter::from_fn(|| Some(self.serve()).filter(|lines| !lines.is_empty())).collect()
    }

    /// A session is up, all that is wanted is active or refused, the hook is done, and nothing of that is in the logs.
    pub(super) fn up(policy: Policy) -> Self {
        let mut shell = Self::new(policy);
        shell.open();
        shell.serve_all();
        if shell.supervisor.state() == State::CatchingUp {
            shell.hook(Ok(()));
        }
        assert_eq!(shell.supervisor.state(), State::Connected);
        shell.forget();
        shell
    }

    /// Empties the logs.
    pub(super) fn forget(&mut self) {
        (self.log, self.told) = (Vec::new(), Vec::new());
        self.queue.log.clear();
        self.queue.gaps.clear();
    }

    /// The session is lost; the next attempt is under way.
    pub(super) fn break_and_reopen(&mut self) {
        self.event(broken());
        self.pass_until_due();
    }

    /// The delay of the next attempt passes, and it succeeds.
    pub(super) fn reopen(&mut self) {
        self.pass_until_due();
        self.open();
    }

    /// The session or the attempt is lost, and the next session is open.
    pub(super) fn come_back(&mut self) {
        self.break_and_reopen();
        self.open();
    }

    /// A handover begins, and the new session is open.
    pub(super) fn rotate_to(&mut self, new: u32) {
        self.command(Command::Rotate);
        self.on(new).open();
    }

    /// Both sessions of a handover are prepared. The fence was sent, and is not answered.
    pub(super) fn prepare(&mut self, old: u32, new: u32) {
        self.rotate_to(new);
        self.on(old).serve();
        self.on(new).serve();
    }

    /// The fence is answered, and comes to the new session and then to the old one.
    pub(super) fn exchange(&mut self, old: u32) {
        self.serve();
        let fence = self.fence();
        self.read(&fence);
        self.on(old).read(&fence);
    }
}
