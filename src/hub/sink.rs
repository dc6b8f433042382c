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
use super::topic_runs;
use crate::notification::ReceiveInfo;
use crate::notification::TopicOf;
use crate::proto::supervisor::{PlacedGap, Scope, Sink, StreamPosition};
use crate::proto::wire::{self, RawNotification, Run};
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
        match &channel.topic_of {
            TopicOf::Prefix(separator) => {
                for run in topic_runs::by_prefix(part.frames, *separator) {
                    let Some(members) = channel.topics.get(&*run.topic) else { continue };
                    let cut = run.topic.len() + 1;
                    topic_runs::strip(run.frames, part.channel.len(), cut, &mut self.scratch);
                    let at = place.at + run.first as u64;
                    self.put_scratch(members, run.count, info, Place { at, ..place });
                }
            }
            TopicOf::Fn(_) => {
                let shared = self.shared.clone();
                let topic = |raw: &_| topic(&shared, &channel.topic_of, raw);
                for run in topic_runs::by_function(part.frames, topic) {
                    let Some(members) = channel.topics.get(&*run.topic) else { continue };
                    self.scratch.extend_from_slice(run.frames);
                    let at = place.at + run.first as u64;
                    self.put_scratch(members, run.count, info, Place { at, ..place });
                }
            }
        }
    }

    /// Puts the frames in `scratch` into mailboxes, as a block.
    fn put_scratch(&mut self, members: &Members, count: usize, info: ReceiveInfo, place: Place) {
        let block = Bytes::copy_from_slice(&self.scratch);
        self.scratch.clear();
        let run = Run { count, bytes: block.len() };
        self.put(members.as_slice(), &block, run, info, place);
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
        let end = loop {
            count += 1;
            let end = notifications.remaining();
            let Some((following, is_same)) = notifications.next_and_same() else {
                next = None;
                break end;
            };
            if !is_same {
                next = Some(following);
                break end;
            }
        };
        let bytes = rest.len() - end.len();
        let (frames, behind) = rest.split_at(bytes);
        rest = behind;
        Some(Part { channel, frames, run: Run { count, bytes } })
    })
}

/// Returns the topic that the function of the user finds. It may panic.
fn topic<'a>(
    shared: &HubShared,
    topic_of: &TopicOf,
    raw: &RawNotification<'a>,
) -> Option<Cow<'a, str>> {
    let payload = std::str::from_utf8(raw.payload).ok()?;
    let found = catch_unwind(AssertUnwindSafe(|| topic_of.split(payload)));
    let found = found.unwrap_or_else(|panic| {
        shared.topic_panicked(&*panic);
        None
    });
    found.map(|(topic, _)| topic)
}
