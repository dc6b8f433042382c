//! The sockets of a listener: the one that is delivered, and beside it those that come and go.

use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::BytesMut;

use super::link::Link;
use super::outside::{Opened, Outside};
use crate::supervisor::{LinkEvent, LinkId};
use crate::wire::buffer;

/// Least spare capacity to read into, in bytes, on a link that is not delivered.
const READ_BYTES: usize = 16 * 1024;

/// Size of such a link's receive buffer when no message is long, in bytes.
const REST_BYTES: usize = 4 * READ_BYTES;

pub(super) struct Links<O: Outside> {
    opening: Vec<(LinkId, O::Opening)>,
    open: Vec<Link<O>>,
    /// Its input lies in the queue's receive buffer.
    delivered: Option<LinkId>,
    buffer: BytesMut,
}

impl<O: Outside> Links<O> {
    pub(super) fn new(outside: &mut O) -> Self {
        let buffer = outside.ring().first_buffer();
        Self { opening: Vec::new(), open: Vec::new(), delivered: None, buffer }
    }

    pub(super) fn open(&mut self, id: LinkId, opening: O::Opening) {
        self.opening.push((id, opening));
    }

    /// An attempt that has ended.
    pub(super) fn poll_opened(
        &mut self,
        cx: &mut Context<'_>,
        outside: &mut O,
    ) -> Poll<(LinkId, LinkEvent)> {
        for index in 0..self.opening.len() {
            let Some((id, opening)) = self.opening.get_mut(index) else { break };
            let id = *id;
            if let Poll::Ready(result) = outside.poll_opening(cx, opening) {
                drop(self.opening.swap_remove(index));
                let event = match result {
                    Ok(Opened { session, socket, rest }) => {
                        self.open.push(Link::new(id, socket, rest, outside.time()));
                        LinkEvent::Opened(session)
                    }
                    Err(error) => LinkEvent::Failed(error),
                };
                return Poll::Ready((id, event));
            }
        }
        Poll::Pending
    }

    pub(super) fn get(&mut self, id: LinkId) -> Option<&mut Link<O>> {
        self.open.iter_mut().find(|link| link.id == id)
    }

    /// The socket of the delivered one.
    pub(super) fn socket(&self) -> Option<&O::Socket> {
        let delivered = |link: &&Link<O>| self.delivered == Some(link.id);
        self.open.iter().find(delivered).map(|link| &link.socket)
    }

    /// The ids of the sockets that are open. There are three at most.
    pub(super) fn ids(&self) -> impl Iterator<Item = LinkId> + use<O> {
        let id = |index: usize| self.open.get(index).map(|link| link.id);
        [id(0), id(1), id(2)].into_iter().flatten()
    }

    /// From now on this one is delivered: what was read of it moves to where it can be.
    pub(super) fn deliver(&mut self, id: LinkId, outside: &mut O) {
        self.buffer.clear();
        self.delivered = Some(id);
        if let Some(link) = self.open.iter_mut().find(|link| link.id == id) {
            let rest = std::mem::take(&mut link.rest);
            outside.ring().make_room(&mut self.buffer, rest.len());
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

    /// What was read of a link and not yet handled, and when the last of it came.
    pub(super) fn input(&mut self, id: LinkId) -> Option<(&mut BytesMut, SystemTime)> {
        let link = self.open.iter_mut().find(|link| link.id == id)?;
        let is_delivered = self.delivered == Some(id);
        Some((if is_delivered { &mut self.buffer } else { &mut link.rest }, link.received_at))
    }

    /// Reads once.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        outside: &mut O,
        id: LinkId,
    ) -> Poll<Result<usize, LinkEvent>> {
        let is_delivered = self.delivered == Some(id);
        let Some(link) = self.open.iter_mut().find(|link| link.id == id && link.reading) else {
            return Poll::Pending;
        };
        if is_delivered {
            outside.ring().prepare(&mut self.buffer);
            return link.poll_read(cx, outside, &mut self.buffer);
        }
        let mut rest = std::mem::take(&mut link.rest);
        buffer::shrink(&mut rest, REST_BYTES);
        rest.reserve(READ_BYTES);
        let read = link.poll_read(cx, outside, &mut rest);
        link.rest = rest;
        read
    }

    /// While the delivered one is left unread: whether the consumer has made room.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>, outside: &mut O) -> Poll<()> {
        let is_stalled = |link: &Link<O>| self.delivered == Some(link.id) && !link.reading;
        if self.open.iter().any(is_stalled) {
            return outside.ring().poll_room(cx, &mut self.buffer);
        }
        Poll::Pending
    }
}
