//! The sockets of a listener: the one that is delivered, and beside it those that come and go.

use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::BytesMut;

use super::link::{Link, Opening};
use super::sink::RingSink;
use crate::net::{Established, Place};
use crate::session::Session;
use crate::supervisor::{LinkEvent, LinkId};

/// Least spare capacity to read into, in bytes, on a link that is not delivered.
const READ_BYTES: usize = 16 * 1024;

pub(super) struct Links {
    opening: Vec<(LinkId, Opening)>,
    open: Vec<Link>,
    /// Its input lies in the queue's receive buffer.
    delivered: Option<LinkId>,
    buffer: BytesMut,
}

impl Links {
    pub(super) fn new(sink: &mut RingSink) -> Self {
        Self { opening: Vec::new(), open: Vec::new(), delivered: None, buffer: sink.first_buffer() }
    }

    pub(super) fn open(&mut self, id: LinkId, opening: Opening) {
        self.opening.push((id, opening));
    }

    /// An attempt that has ended.
    pub(super) fn poll_opened(&mut self, cx: &mut Context<'_>) -> Poll<(LinkId, LinkEvent)> {
        for index in 0..self.opening.len() {
            let Some((id, opening)) = self.opening.get_mut(index) else { break };
            let id = *id;
            if let Poll::Ready(result) = opening.as_mut().poll(cx) {
                drop(self.opening.swap_remove(index));
                let event = match result {
                    Ok(established) => LinkEvent::Opened(self.take_in(id, established)),
                    Err(error) => LinkEvent::Failed(error),
                };
                return Poll::Ready((id, event));
            }
        }
        Poll::Pending
    }

    fn take_in(&mut self, id: LinkId, established: Established) -> Box<Session> {
        let Established { driver, place, .. } = established;
        let (session, pipe, rest) = driver.into_parts();
        self.open.push(Link::new(id, place, pipe, rest));
        Box::new(session)
    }

    pub(super) fn get(&mut self, id: LinkId) -> Option<&mut Link> {
        self.open.iter_mut().find(|link| link.id == id)
    }

    /// Where the delivered one is.
    pub(super) fn place(&self) -> Option<Place> {
        let delivered = |link: &&Link| self.delivered == Some(link.id);
        self.open.iter().find(delivered).map(|link| link.place.clone())
    }

    /// The ids of the sockets that are open. There are three at most.
    pub(super) fn ids(&self) -> impl Iterator<Item = LinkId> + use<> {
        let id = |index: usize| self.open.get(index).map(|link| link.id);
        [id(0), id(1), id(2)].into_iter().flatten()
    }

    /// From now on this one is delivered: what was read of it moves to where it can be.
    pub(super) fn deliver(&mut self, id: LinkId, sink: &mut RingSink) {
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
        id: LinkId,
        sink: &mut RingSink,
    ) -> Poll<Result<usize, LinkEvent>> {
        let is_delivered = self.delivered == Some(id);
        let Some(link) = self.open.iter_mut().find(|link| link.id == id && link.reading) else {
            return Poll::Pending;
        };
        if is_delivered {
            sink.prepare(&mut self.buffer);
            return link.poll_read(cx, &mut self.buffer);
        }
        let mut rest = std::mem::take(&mut link.rest);
        rest.reserve(READ_BYTES);
        let read = link.poll_read(cx, &mut rest);
        link.rest = rest;
        read
    }

    /// While the delivered one is left unread: whether the consumer has made room.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>, sink: &mut RingSink) -> Poll<()> {
        let is_stalled = |link: &Link| self.delivered == Some(link.id) && !link.reading;
        if self.open.iter().any(is_stalled) {
            return sink.poll_room(cx, &mut self.buffer);
        }
        Poll::Pending
    }
}
