//! [`SimulatedConnection`]: a simulated connection, with both ends and the packets between them.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::{Buf, Bytes, BytesMut};

use super::chaos::{KERNEL_TIMEOUT, ONE_WAY_TIMEOUT};
use super::clock::Micros;
use super::proxy::ProxyTransaction;
use super::server::SimulatedServer;
use crate::error::Error;
use crate::proto::session::Session;
use crate::proto::supervisor::LinkId;
use crate::testing::SessionId;

/// A packet on its way.
#[derive(Debug)]
pub(super) enum Packet {
    Bytes(Bytes),
    Fin,
    /// A reset: unread bytes are lost.
    Rst,
}

/// One direction of a connection. Packets arrive in order.
#[derive(Debug, Default)]
pub(super) struct NetworkLane {
    pub(super) packets: VecDeque<Packet>,
    /// The time at which the last of them arrives.
    pub(super) last: Micros,
    /// The time since which packets are lost.
    pub(super) cut_at: Option<Micros>,
}

impl NetworkLane {
    pub(super) fn cut(&mut self, now: Micros) {
        self.cut_at.get_or_insert(now);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut_at.is_some()
    }
}

/// Counts the notifications and the answers that the client has read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    unfinished: BytesMut,
    pub(super) notifications: usize,
    /// ReadyForQuery messages.
    pub(super) readies: usize,
    /// A FATAL error or the end of the stream was read.
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

/// The state of the client's end.
#[derive(Debug)]
pub(super) enum Stage {
    Connecting,
    /// The attempt has failed, and the task has not received the error.
    Failed(Error),
    LoggingIn(Box<Session>),
    /// The login is done. The session was passed to the supervisor.
    Open,
    Closed,
}

/// A connection of the listener.
pub(super) struct SimulatedConnection {
    pub(super) link: LinkId,
    pub(super) server: usize,
    pub(super) opened_at: Micros,
    pub(super) epoch: u32,
    // ---- the client's end ----
    pub(super) stage: Stage,
    /// Bytes that were read and that the login has not handled.
    pub(super) input: BytesMut,
    /// Bytes that have arrived and were not read.
    pub(super) socket: BytesMut,
    /// The time at which the first of them arrived.
    pub(super) unread_at: Micros,
    /// The end of the delay of the next read.
    pub(super) waits_until: Option<Micros>,
    /// The end of the stream, after these bytes.
    pub(super) end: Option<Packet>,
    /// Wakers of the reader and of the writer.
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    pub(super) is_reading: bool,
    pub(super) unread_since: Option<Micros>,
    pub(super) is_closing: bool,
    pub(super) is_shut: bool,
    /// The socket accepts no bytes at present.
    pub(super) is_blocked: bool,
    // ---- between ----
    pub(super) to_server: NetworkLane,
    pub(super) to_client: NetworkLane,
    // ---- the server's end ----
    pub(super) session: Option<SessionId>,
    pub(super) arrived: BytesMut,
    /// The backend drops the next notification of this session, and reports an error.
    pub(super) drops_next: bool,
    /// It has dropped one.
    pub(super) has_dropped: bool,
    /// The fence of a handover is lost on its way to this session, without an error.
    pub(super) loses_fence: bool,
    /// A transaction that a proxy is about to begin.
    pub(super) begin: Option<ProxyTransaction>,
    /// The number of answers that were written.
    pub(super) readies: usize,
    /// That number before the answer to a command of the attempt to connect, which the listener does not receive.
    pub(super) before_early: Option<usize>,
    /// The numbers of the answers that came from inside a transaction of a proxy.
    pub(super) inside: VecDeque<usize>,
    /// The time at which the client has read the first of these answers.
    pub(super) inside_at: Option<Micros>,
    /// The number of ROLLBACKs since then.
    pub(super) rollbacks: usize,
    /// The time since which the backend is stopped.
    pub(super) stopped_at: Option<Micros>,
    // ---- what was observed ----
    /// It has a fault that may end it.
    pub(super) is_faulty: bool,
    /// The server has forgotten the channels of its session.
    pub(super) has_lost_channels: bool,
    /// The supervisor has received its end, or has ended it.
    pub(super) is_lost: bool,
    /// It is the new session of a handover.
    pub(super) is_new_session: bool,
    /// It was ended by the end of the listener, before its notifications were delivered.
    pub(super) is_undelivered: bool,
    /// It delivers notifications, or has delivered some.
    pub(super) was_delivered: bool,
    /// The time since which every channel is active on it, according to the supervisor.
    pub(super) live_at: Option<Micros>,
    /// The process ids of the notifications that the server wrote to it.
    pub(super) sent: Vec<i32>,
    /// Counts of what the client has read.
    pub(super) read: Reading,
    /// How many of `sent` were received or may be skipped.
    pub(super) taken: usize,
    /// The index of the first of them that was received.
    pub(super) first_taken: Option<usize>,
}

impl SimulatedConnection {
    pub(super) fn new(link: LinkId, server: usize, now: Micros) -> Self {
        Self {
            link,
            server,
            opened_at: now,
            epoch: 0,
            stage: Stage::Connecting,
            input: BytesMut::new(),
            socket: BytesMut::new(),
            unread_at: 0,
            waits_until: None,
            end: None,
            reader: None,
            writer: None,
            is_reading: true,
            unread_since: None,
            is_closing: false,
            is_shut: false,
            is_blocked: false,
            to_server: NetworkLane::default(),
            to_client: NetworkLane::default(),
            session: None,
            arrived: BytesMut::new(),
            drops_next: false,
            has_dropped: false,
            loses_fence: false,
            begin: None,
            readies: 0,
            before_early: None,
            inside: VecDeque::new(),
            inside_at: None,
            rollbacks: 0,
            stopped_at: None,
            is_faulty: false,
            has_lost_channels: false,
            is_lost: false,
            is_new_session: false,
            is_undelivered: false,
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

    /// Returns whether packets are lost, or the backend is stopped.
    pub(super) fn is_silent(&self) -> bool {
        self.is_stopped() || self.to_server.is_cut() || self.to_client.is_cut()
    }

    /// Returns the time at which the listener must have detected a fault, or the kernel gives the connection up. Only faults
    /// that exist now count, not those that were repaired.
    pub(super) fn overdue_at(&self) -> Option<Micros> {
        let silent = [self.stopped_at, self.to_client.cut_at].map(|since| (since, KERNEL_TIMEOUT));
        // The ROLLBACK does not arrive, and data that the server still sends restarts the timeout.
        let is_cut = self.to_server.cut_at.is_some();
        let inside = (self.inside_at, if is_cut { ONE_WAY_TIMEOUT } else { KERNEL_TIMEOUT });
        let all = silent.into_iter().chain([inside, (self.to_server.cut_at, ONE_WAY_TIMEOUT)]);
        let live_at = self.live_at.unwrap_or_default();
        all.filter_map(|(since, timeout)| Some(since?.max(live_at) + timeout)).min()
    }

    pub(super) fn stop(&mut self, now: Micros) {
        self.stopped_at.get_or_insert(now);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped_at.is_some()
    }

    /// Returns whether it is silent, has lost its channels, or is inside a transaction.
    pub(super) fn is_dead(&self) -> bool {
        self.is_silent() || self.has_lost_channels || self.inside_at.is_some()
    }

    /// Returns the notifications after the fence that the client has read, of a new session that was not delivered.
    pub(super) fn behind_fence(&self) -> &[i32] {
        let read = &self.sent[..self.read.notifications];
        let fence = read.iter().position(|&sent| SimulatedServer::number(sent).is_none());
        fence.map_or(&[], |fence| &read[fence + 1..])
    }

    /// Returns whether there are bytes to read, or the end.
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
