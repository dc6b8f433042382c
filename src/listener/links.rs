//! [`Links`]: the connections of a listener's task, and which of them delivers notifications.

use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use bytes::BytesMut;

use super::environment::{Environment, Opened};
use crate::net::ReadWait;
use crate::proto::supervisor::{LinkEvent, LinkId};
use crate::proto::wire::buffer;
use crate::queue::ReceiveBuffers;

/// The least spare capacity for a read, in bytes, on a link that does not deliver.
const READ_BYTES: usize = 16 * 1024;

/// The size of the receive buffer of such a link, in bytes, if no message is long.
const REST_BYTES: usize = 4 * READ_BYTES;

pub(super) struct Links<E: Environment> {
    opening: Vec<(LinkId, E::Opening)>,
    open: Vec<OpenLink<E>>,
    /// The link that delivers. Its input is in `buffer`, a receive buffer of the queue.
    delivered: Option<LinkId>,
    buffer: BytesMut,
}

impl<E: Environment> Links<E> {
    pub(super) fn new(sink: &mut E::Sink) -> Self {
        let buffer = sink.first_buffer();
        Self { opening: Vec::new(), open: Vec::new(), delivered: None, buffer }
    }

    pub(super) fn open(&mut self, id: LinkId, opening: E::Opening) {
        self.opening.push((id, opening));
    }

    /// Returns an attempt that has ended.
    pub(super) fn poll_opened(
        &mut self,
        cx: &mut Context<'_>,
        environment: &mut E,
    ) -> Poll<(LinkId, LinkEvent)> {
        for index in 0..self.opening.len() {
            let Some((id, opening)) = self.opening.get_mut(index) else { break };
            let id = *id;
            if let Poll::Ready(result) = environment.poll_opening(cx, opening) {
                drop(self.opening.swap_remove(index));
                let event = match result {
                    Ok(Opened { session, socket, rest }) => {
                        self.open.push(OpenLink::new(id, socket, rest, environment.system_time()));
                        LinkEvent::Opened(session)
                    }
                    Err(error) => LinkEvent::Failed(error),
                };
                return Poll::Ready((id, event));
            }
        }
        Poll::Pending
    }

    pub(super) fn get(&mut self, id: LinkId) -> Option<&mut OpenLink<E>> {
        self.open.iter_mut().find(|link| link.id == id)
    }

    /// Returns the socket of the link that delivers.
    pub(super) fn socket(&self) -> Option<&E::Socket> {
        let delivered = |link: &&OpenLink<E>| self.delivered == Some(link.id);
        self.open.iter().find(delivered).map(|link| &link.socket)
    }

    /// Returns the ids of the open links. There are at most three.
    pub(super) fn ids(&self) -> impl Iterator<Item = LinkId> + use<E> {
        let id = |index: usize| self.open.get(index).map(|link| link.id);
        [id(0), id(1), id(2)].into_iter().flatten()
    }

    /// Makes this link the one that delivers: its unhandled input moves to the receive buffer of the queue.
    pub(super) fn deliver(&mut self, id: LinkId, sink: &mut E::Sink) {
        self.buffer.clear();
        self.delivered = Some(id);
        if let Some(link) = self.open.iter_mut().find(|link| link.id == id) {
            let rest = std::mem::take(&mut link.rest);
            sink.make_room(&mut self.buffer, rest.len());
            self.buffer.extend_from_slice(&rest);
        }
    }

    pub(super) fn abort(&mut self, id: LinkId) {
        self.opening.retain(|(opening, _)| *opening != id);
        self.open.retain(|link| link.id != id);
        if self.delivered == Some(id) {
            self.delivered = None;
            self.buffer.clear();
        }
    }

    /// Returns the unhandled input of a link, and the time of its last read.
    pub(super) fn input(&mut self, id: LinkId) -> Option<(&mut BytesMut, SystemTime)> {
        let link = self.open.iter_mut().find(|link| link.id == id)?;
        let is_delivered = self.delivered == Some(id);
        Some((if is_delivered { &mut self.buffer } else { &mut link.rest }, link.received_at))
    }

    /// Reads once, unless reading is stopped.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        environment: &mut E,
        sink: &mut E::Sink,
        id: LinkId,
    ) -> Poll<Result<usize, LinkEvent>> {
        let is_delivered = self.delivered == Some(id);
        let Some(link) = self.open.iter_mut().find(|link| link.id == id && link.reading) else {
            return Poll::Pending;
        };
        if is_delivered {
            sink.prepare(&mut self.buffer);
            let read = link.poll_read(cx, environment, &mut self.buffer);
            if let Poll::Ready(Ok(bytes)) = &read {
                sink.handle_read(*bytes);
            }
            return read;
        }
        let mut rest = std::mem::take(&mut link.rest);
        buffer::shrink(&mut rest, REST_BYTES);
        rest.reserve(READ_BYTES);
        let read = link.poll_read(cx, environment, &mut rest);
        link.rest = rest;
        read
    }

    /// Returns true if the last read has taken everything that had arrived, and the next one can be delayed.
    pub(super) fn can_wait(&self, environment: &E, id: LinkId) -> bool {
        let link = self.open.iter().find(|link| link.id == id);
        link.is_some_and(|link| environment.can_wait(&link.socket))
    }

    /// Waits before the next read of a link.
    pub(super) fn poll_delay(
        &mut self,
        cx: &mut Context<'_>,
        environment: &mut E,
        id: LinkId,
        until: Instant,
    ) -> ReadWait {
        self.get(id).map_or(ReadWait::None, |link| {
            environment.poll_delay(cx, &mut link.socket, &mut link.delay_timer, until)
        })
    }

    /// Waits for room in the queue during a stall.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>, sink: &mut E::Sink) -> Poll<()> {
        let is_stalled = |link: &OpenLink<E>| self.delivered == Some(link.id) && !link.reading;
        if self.open.iter().any(is_stalled) {
            return sink.poll_room(cx, &mut self.buffer);
        }
        Poll::Pending
    }
}

/// A link whose socket is open.
pub(super) struct OpenLink<E: Environment> {
    pub(super) id: LinkId,
    pub(super) socket: E::Socket,
    /// The unhandled input, unless this link delivers: then it is in [`Links::buffer`].
    pub(super) rest: BytesMut,
    /// The time of the last read.
    pub(super) received_at: SystemTime,
    pub(super) reading: bool,
    delay_timer: E::Timer,
    /// The sending direction is shut down when everything is written.
    closing: bool,
    shut: bool,
}

impl<E: Environment> OpenLink<E> {
    /// `rest` is input that was received at `received_at`.
    pub(super) fn new(
        id: LinkId,
        socket: E::Socket,
        rest: BytesMut,
        received_at: SystemTime,
    ) -> Self {
        Self {
            id,
            socket,
            rest,
            received_at,
            reading: true,
            delay_timer: E::Timer::default(),
            closing: false,
            shut: false,
        }
    }

    /// Begins to close: the rest is written, the sending direction is shut down, and the socket is read to its end.
    pub(super) fn close(&mut self) {
        self.closing = true;
        self.reading = true;
    }

    /// Writes `out`, and shuts down the sending direction if the link closes.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        environment: &mut E,
        out: &mut BytesMut,
    ) {
        let is_written = environment.poll_write(cx, &mut self.socket, out).is_ready();
        if is_written && self.closing && !self.shut {
            self.shut = environment.poll_shutdown(cx, &mut self.socket).is_ready();
        }
    }

    /// Reads once into `input`. Returns the number of bytes, or how the connection ended.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        environment: &mut E,
        input: &mut BytesMut,
    ) -> Poll<Result<usize, LinkEvent>> {
        environment.poll_read(cx, &mut self.socket, input).map(|read| match read {
            Ok(0) => Err(LinkEvent::Eof),
            Ok(bytes) => {
                self.received_at = environment.system_time();
                Ok(bytes)
            }
            Err(error) => Err(LinkEvent::Failed(error)),
        })
    }
}
