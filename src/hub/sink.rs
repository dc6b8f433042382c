//! [`HubSink`]: puts the notifications of a session into the mailboxes of the subscriptions.
//!
//! ```text
//! receive buffer   a a a b b a   of channels a and b
//!                  ─────┬ ─┬ ┬
//!                  copy │  │ │   one block for each part with one channel, or with one topic of it
//!                       ▼  ▼ ▼
//! mailboxes        of a, of b: each block is in every mailbox of its channel or topic, and is copied no more
//! ```
//! The receive buffer keeps nothing, so that it is used again for the next read, and a subscription keeps no more than its own
//! notifications.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use super::channel::HubChannel;
use super::mailbox::{Mailbox, Place};
use super::members::Members;
use super::routes::Woken;
use super::shared::HubShared;
use crate::notification::ReceiveInfo;
use crate::notification::TopicOf;
use crate::proto::supervisor::{PlacedGap, Scope, Sink, StreamPosition};
use crate::proto::wire::{self, BackendMessage, RawNotification, Run};
use crate::queue::{ReceiveBuffers, ReusedBuffer};

/// The producing end of all mailboxes of a hub.
#[derive(Debug)]
pub(super) struct HubSink {
    shared: Arc<HubShared>,
    buffer: ReusedBuffer,
    /// Notifications received.
    position: u64,
    woken: Woken,
    /// The frames of a block that is being made.
    scratch: BytesMut,
}

impl HubSink {
    pub(super) fn new(shared: Arc<HubShared>) -> Self {
        let (buffer, woken) = (ReusedBuffer::default(), Woken::default());
        Self { shared, buffer, position: 0, woken, scratch: BytesMut::new() }
    }
}

impl Sink for HubSink {
    /// There is always room: each mailbox applies its own policy.
    fn fits(&self, _frames: &[u8], run: Run, _surplus: bool) -> Run {
        run
    }

    fn notifications(&mut self, input: &mut BytesMut, run: Run, info: ReceiveInfo, _surplus: bool) {
        let shared = self.shared.clone();
        let mut routes = shared.lock();
        routes.epoch = info.epoch;
        let held = (routes.is_held, routes.hold);
        let frames = input.get(..run.bytes).unwrap_or_default();
        for part in parts(frames) {
            let place = Place { at: self.position, is_held: held.0, hold: held.1 };
            self.position += part.run.count as u64;
            match std::str::from_utf8(part.channel).ok().and_then(|name| routes.channels.get(name))
            {
                Some(channel) => self.deliver(channel, &part, info, place),
                None => shared.counters.unclaimed(part.run.count),
            }
        }
        drop(routes);
        ReusedBuffer::discard(input, run.bytes);
    }

    fn publish(&mut self) {
        self.shared.set_received(self.position);
        self.woken.wake();
    }

    fn is_empty(&self) -> bool {
        true
    }

    fn hold(&mut self, scope: &Scope) -> StreamPosition {
        self.publish();
        self.shared.lock().hold(scope);
        StreamPosition(self.position)
    }

    fn release(&mut self, gaps: Vec<PlacedGap>) {
        let mut woken = self.shared.lock().release(gaps);
        woken.wake();
        self.publish();
    }
}

impl HubSink {
    /// Puts notifications of one channel into the mailboxes of its subscriptions.
    fn deliver(&mut self, channel: &HubChannel, part: &Part<'_>, info: ReceiveInfo, place: Place) {
        if !channel.plain.is_empty() {
            let block = Bytes::copy_from_slice(part.frames);
            self.put(channel.plain.as_slice(), &block, part.run, info, place);
        }
        if !channel.topics.is_empty() {
            self.deliver_topics(channel, part, info, place);
        }
    }

    /// Puts notifications of one channel into the mailboxes of their topics.
    fn deliver_topics(
        &mut self,
        channel: &HubChannel,
        part: &Part<'_>,
        info: ReceiveInfo,
        place: Place,
    ) {
        let mut rest = part.frames;
        // The topic of the block in `scratch`, its mailboxes, the position of its first notification, and their number.
        let mut open: Option<(Cow<'_, str>, &Members, u64, usize)> = None;
        for (at, raw) in (place.at..).zip(wire::frames(part.frames)) {
            let next = behind(rest);
            let (frame, _) = rest.split_at(rest.len() - next.len());
            rest = next;
            let found = self.topic(&channel.topic_of, &raw);
            let is_same = match (&open, &found) {
                (Some((topic, ..)), Some((other, _))) => topic == other,
                _ => false,
            };
            if !is_same && let Some((_, members, at, count)) = open.take() {
                self.put_scratch(members, count, info, Place { at, ..place });
            }
            let Some((topic, payload)) = found else { continue };
            if open.is_none() {
                let Some(members) = channel.topics.get(&*topic) else { continue };
                open = Some((topic, members, at, 0));
            }
            if let Some((.., count)) = &mut open {
                *count += 1;
            }
            match &channel.topic_of {
                // It is shorter than the frame that was received, so it can be encoded.
                TopicOf::Prefix(_) => {
                    let raw = RawNotification { payload: payload.as_bytes(), ..raw };
                    let _ = BackendMessage::NotificationResponse(raw).encode(&mut self.scratch);
                }
                TopicOf::Fn(_) => self.scratch.extend_from_slice(frame),
            }
        }
        if let Some((_, members, at, count)) = open {
            self.put_scratch(members, count, info, Place { at, ..place });
        }
    }

    /// Puts the frames in `scratch` into mailboxes, as a block.
    fn put_scratch(&mut self, members: &Members, count: usize, info: ReceiveInfo, place: Place) {
        let block = Bytes::copy_from_slice(&self.scratch);
        self.scratch.clear();
        let run = Run { count, bytes: block.len() };
        self.put(members.as_slice(), &block, run, info, place);
    }

    /// Returns the topic of a notification and the payload that its subscriptions receive. The function of the user may panic.
    fn topic<'a>(
        &self,
        topic_of: &TopicOf,
        raw: &RawNotification<'a>,
    ) -> Option<(Cow<'a, str>, &'a str)> {
        let payload = std::str::from_utf8(raw.payload).ok()?;
        if let TopicOf::Prefix(_) = topic_of {
            return topic_of.split(payload);
        }
        catch_unwind(AssertUnwindSafe(|| topic_of.split(payload))).unwrap_or_else(|panic| {
            self.shared.topic_panicked(&*panic);
            None
        })
    }

    /// Puts a block into mailboxes.
    fn put(
        &mut self,
        mailboxes: &[Arc<Mailbox>],
        block: &Bytes,
        run: Run,
        info: ReceiveInfo,
        place: Place,
    ) {
        let (mut count, mut dropped) = (0, 0);
        for mailbox in mailboxes {
            let (more, (lost, waker)) = match &mailbox.filter {
                None => (run.count, mailbox.put(block, run, info, place)),
                Some(filter) => {
                    let (frames, run) = filter.apply(block, run);
                    if run.count == 0 {
                        continue;
                    }
                    (run.count, mailbox.put(&frames, run, info, place))
                }
            };
            count += more as u64;
            dropped += lost;
            self.woken.wakers.extend(waker);
        }
        self.shared.counters.count(count, dropped);
    }
}

impl ReceiveBuffers for HubSink {
    fn first_buffer(&mut self) -> BytesMut {
        self.buffer.first()
    }

    fn prepare(&mut self, input: &mut BytesMut) {
        self.buffer.prepare(input);
    }

    fn handle_read(&mut self, bytes: usize) {
        self.buffer.handle_read(bytes);
    }

    fn make_room(&mut self, input: &mut BytesMut, bytes: usize) {
        self.buffer.make_room(input, bytes);
    }

    fn poll_room(&mut self, _cx: &mut Context<'_>, _input: &mut BytesMut) -> Poll<()> {
        Poll::Ready(())
    }
}

impl Drop for HubSink {
    /// Ends the stream of every subscription.
    fn drop(&mut self) {
        self.publish();
        self.shared.close();
    }
}

/// Consecutive notifications of one channel.
struct Part<'a> {
    channel: &'a [u8],
    frames: &'a [u8],
    run: Run,
}

/// Divides frames into parts with one channel each.
fn parts(frames: &[u8]) -> impl Iterator<Item = Part<'_>> {
    let mut rest = frames;
    let mut notifications = wire::frames(frames);
    let mut next = notifications.next();
    std::iter::from_fn(move || {
        let channel = next?.channel;
        let mut count = 0;
        let mut end = rest.len();
        while next.is_some_and(|one| one.channel == channel) {
            count += 1;
            end = rest.len() - notifications.remaining().len();
            next = notifications.next();
        }
        let (frames, behind) = rest.split_at(end);
        rest = behind;
        Some(Part { channel, frames, run: Run { count, bytes: end } })
    })
}

/// Returns what is behind the first frame.
fn behind(frames: &[u8]) -> &[u8] {
    let first = Run::first(1, frames);
    frames.get(first.bytes..).unwrap_or_default()
}
