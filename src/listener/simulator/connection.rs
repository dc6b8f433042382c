//! A connection of the listener: both ends, and what is on its way between them.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::{Buf, Bytes, BytesMut};

use super::chaos::{PATIENCE, UP_ALONE};
use super::clock::Micros;
use super::proxy::Begin;
use super::server::Server;
use crate::Error;
use crate::session::Session;
use crate::supervisor::LinkId;
use crate::testing::SessionId;

/// Something on its way.
#[derive(Debug)]
pub(super) enum Packet {
    Bytes(Bytes),
    Fin,
    /// What was not read is lost.
    Rst,
}

/// One direction. Nothing overtakes.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) packets: VecDeque<Packet>,
    /// When the last of them arrives.
    pub(super) last: Micros,
    /// Since when what is sent vanishes.
    pub(super) cut_at: Option<Micros>,
}

impl Lane {
    pub(super) fn cut(&mut self, now: Micros) {
        self.cut_at.get_or_insert(now);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut_at.is_some()
    }
}

/// Counts the notifications and the answers in what our end reads, from the first byte on.
#[derive(Debug, Default)]
pub(super) struct Reading {
    unfinished: BytesMut,
    pub(super) notifications: usize,
    /// Answers that are complete.
    pub(super) readies: usize,
    /// The server has said why it ends the session, or the end of the stream was read.
    pub(super) is_ended: bool,
}

impl Reading {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.unfinished.extend_from_slice(bytes);
        while let [kind, a, b, c, d, ..] = *self.unfinished {
            let length = 1 + usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap();
            if self.unfinished.len() < length {
                return;
            }
            self.notifications += usize::from(kind == b'A');
            self.readies += usize::from(kind == b'Z');
            self.is_ended |= kind == b'E' && self.unfinished[5..].starts_with(b"SFATAL\0");
            self.unfinished.advance(length);
        }
    }
}

/// How our end of a connection stands.
#[derive(Debug)]
pub(super) enum Stage {
    Connecting,
    /// It will not be open: the task is yet to see it.
    Failed(Error),
    LoggingIn(Box<Session>),
    /// The supervisor has it.
    Open,
    Closed,
}

pub(super) struct Connection {
    pub(super) link: LinkId,
    pub(super) server: usize,
    pub(super) opened_at: Micros,
    pub(super) epoch: u32,
    // ---- our end ----
    pub(super) stage: Stage,
    /// What was read and not handled by the login.
    pub(super) input: BytesMut,
    /// What has arrived and was not read.
    pub(super) socket: BytesMut,
    /// What follows it.
    pub(super) end: Option<Packet>,
    /// Who waits for something to read, and for the socket to take bytes.
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    pub(super) is_reading: bool,
    pub(super) unread_since: Option<Micros>,
    pub(super) is_closing: bool,
    pub(super) is_shut: bool,
    /// The socket takes nothing at present.
    pub(super) is_blocked: bool,
    // ---- between ----
    pub(super) to_server: Lane,
    pub(super) to_client: Lane,
    // ---- the server's end ----
    pub(super) session: Option<SessionId>,
    pub(super) arrived: BytesMut,
    /// The backend loses the next notification of this session, and says so.
    pub(super) drops_next: bool,
    /// It did so.
    pub(super) has_dropped: bool,
    /// The fence of a handover is dropped on its way to this session, and no error is reported.
    pub(super) swallows_fence: bool,
    /// A transaction that a proxy is about to begin.
    pub(super) begin: Option<Begin>,
    /// How many answers were written to it, and which of them came from inside a transaction of a proxy.
    pub(super) readies: usize,
    /// As many were written before the answer to what an attempt to connect has sent. The listener does not see that answer.
    pub(super) before_early: Option<usize>,
    pub(super) inside: VecDeque<usize>,
    /// Since when our end knows of such an answer.
    pub(super) inside_at: Option<Micros>,
    /// How often it was rolled back since then.
    pub(super) rollbacks: usize,
    /// Since when the backend does nothing.
    pub(super) stopped_at: Option<Micros>,
    // ---- what is known of it ----
    /// Something was done to it that may end it.
    pub(super) is_faulty: bool,
    /// The server has forgotten what it listens to.
    pub(super) is_deaf: bool,
    /// The supervisor knows that it is over, or has ended it.
    pub(super) is_lost: bool,
    /// It was begun beside another session, to take its place.
    pub(super) is_successor: bool,
    /// The end of the listener has ended it before its notifications were delivered.
    pub(super) is_left: bool,
    /// Its notifications were delivered, from some moment on.
    pub(super) was_delivered: bool,
    /// Since when everything was active on it, as far as the supervisor said so.
    pub(super) live_at: Option<Micros>,
    /// Process ids of the notifications that the server wrote to it.
    pub(super) sent: Vec<i32>,
    /// How many of them were read by our end.
    pub(super) read: Reading,
    /// How many of them the listener took or may have passed over.
    pub(super) taken: usize,
    /// The first of them that was taken.
    pub(super) first_taken: Option<usize>,
}

impl Connection {
    pub(super) fn new(link: LinkId, server: usize, now: Micros) -> Self {
        Self {
            link,
            server,
            opened_at: now,
            epoch: 0,
            stage: Stage::Connecting,
            input: BytesMut::new(),
            socket: BytesMut::new(),
            end: None,
            reader: None,
            writer: None,
            is_reading: true,
            unread_since: None,
            is_closing: false,
            is_shut: false,
            is_blocked: false,
            to_server: Lane::default(),
            to_client: Lane::default(),
            session: None,
            arrived: BytesMut::new(),
            drops_next: false,
            has_dropped: false,
            swallows_fence: false,
            begin: None,
            readies: 0,
            before_early: None,
            inside: VecDeque::new(),
            inside_at: None,
            rollbacks: 0,
            stopped_at: None,
            is_faulty: false,
            is_deaf: false,
            is_lost: false,
            is_successor: false,
            is_left: false,
            was_delivered: false,
            live_at: None,
            sent: Vec::new(),
            read: Reading::default(),
            taken: 0,
            first_taken: None,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.stage, Stage::Closed)
    }

    /// Whether nothing comes of it any more.
    pub(super) fn is_silent(&self) -> bool {
        self.is_stopped() || self.to_server.is_cut() || self.to_client.is_cut()
    }

    /// When the listener must have noticed that nothing comes of it, or the kernel says so: the time runs for each thing
    /// that is broken now, and not for what was mended.
    pub(super) fn overdue_at(&self) -> Option<Micros> {
        let silent = [self.stopped_at, self.to_client.cut_at].map(|since| (since, PATIENCE));
        // The ROLLBACK does not arrive, and what the server goes on sending is a sign of life.
        let is_cut = self.to_server.cut_at.is_some();
        let inside = (self.inside_at, if is_cut { UP_ALONE } else { PATIENCE });
        let all = silent.into_iter().chain([inside, (self.to_server.cut_at, UP_ALONE)]);
        let live_at = self.live_at.unwrap_or_default();
        all.filter_map(|(since, patience)| Some(since?.max(live_at) + patience)).min()
    }

    pub(super) fn stop(&mut self, now: Micros) {
        self.stopped_at.get_or_insert(now);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped_at.is_some()
    }

    /// Whether nothing comes of it any more, or not what should.
    pub(super) fn is_dead(&self) -> bool {
        self.is_silent() || self.is_deaf || self.inside_at.is_some()
    }

    /// What our end has read behind the fence, of a successor that was not delivered.
    pub(super) fn behind_fence(&self) -> &[i32] {
        let read = &self.sent[..self.read.notifications];
        let fence = read.iter().position(|&sent| Server::number(sent).is_none());
        fence.map_or(&[], |fence| &read[fence + 1..])
    }

    /// Whether there is something to read, or an end.
    pub(super) fn is_readable(&self) -> bool {
        let has_come = !self.socket.is_empty() || self.end.is_some();
        match &self.stage {
            Stage::Failed(_) => true,
            Stage::LoggingIn(_) | Stage::Open => self.is_reading && has_come,
            Stage::Connecting | Stage::Closed => false,
        }
    }

    pub(super) fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }
}
