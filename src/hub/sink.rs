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
use std::iter::Peekable;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use super::channel::HubChannel;
use super::frame_runs::{FrameRun, by_channel};
use super::mailbox::{Mailbox, Place};
use super::routes::Woken;
use super::shared::HubShared;
use super::topic_runs::{self, TopicRun};
use crate::error::contain;
use crate::notification::ReceiveInfo;
use crate::notification::TopicOf;
use crate::proto::supervisor::{PlacedGap, Scope, Sink, StreamPosition};
use crate::proto::wire::{RawNotification, Run};
use crate::queue::{ReceiveBuffers, ReusedBuffer};

/// The producing end of all mailboxes of a hub.
#[derive(Debug)]
pub(super) struct HubSink {
    shared: Arc<HubShared>,
    buffer: ReusedBuffer,
    /// Notifications received.
    position: u64,
    woken: Woken,
}

impl HubSink {
    pub(super) fn new(shared: Arc<HubShared>) -> Self {
        let (buffer, woken) = (ReusedBuffer::default(), Woken::default());
        Self { shared, buffer, position: 0, woken }
    }
}

impl Sink for HubSink {
    /// There is always room: each mailbox applies its own policy.
    fn fits(&self, _frames: &[u8], run: Run, _surplus: bool) -> Run {
        run
    }

    fn notifications(&mut self, input: &mut BytesMut, run: Run, info: ReceiveInfo, _surplus: bool) {
        let frames = input.get(..run.bytes).unwrap_or_default();
        if self.shared.topics.has_functions() {
            let mut rest = frames;
            while !rest.is_empty() {
                let part = Run::first(FUNCTION_RUN, rest);
                let (frames, behind) = rest.split_at(part.bytes);
                self.distribute(frames, part.count, info);
                rest = if part.count == 0 { &[] } else { behind };
            }
        } else {
            self.distribute(frames, run.count, info);
        }
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
    /// Puts notifications into the mailboxes of their channels and topics.
    fn distribute(&mut self, frames: &[u8], count: usize, info: ReceiveInfo) {
        let shared = self.shared.clone();
        let mut topics = topics_by_functions(&shared, frames).into_iter().peekable();
        let mut routes = shared.lock();
        routes.epoch = info.epoch;
        let place = Place { at: self.position, is_held: routes.is_held, hold: routes.hold };
        for part in by_channel(frames) {
            let name = std::str::from_utf8(part.key).unwrap_or_default();
            match routes.channels.get(name).filter(|channel| channel.has_members()) {
                Some(channel) => self.deliver((name, channel), &part, &mut topics, info, place),
                None => shared.counters.unclaimed(part.run.count),
            }
        }
        self.position += count as u64;
    }

    /// Puts notifications of one channel into the mailboxes of its subscriptions. `place` is that of the first notification of the read, and
    /// `topics` the runs of topics that functions have found in it.
    fn deliver<'a>(
        &mut self,
        (name, channel): (&str, &HubChannel),
        part: &FrameRun<'a, &[u8]>,
        topics: &mut Peekable<impl Iterator<Item = TopicRun<'a>>>,
        info: ReceiveInfo,
        place: Place,
    ) {
        if !channel.plain.is_empty() {
            let block = Bytes::copy_from_slice(part.frames);
            self.put(channel.plain.as_slice(), block, part.run, info, place.behind(part.first));
        }
        if channel.topics.is_empty() {
            return;
        }
        match self.shared.topics.of(name) {
            TopicOf::Prefix(separator) => {
                let length = part.key.len();
                for topic in topic_runs::by_prefix(part.frames, length, *separator) {
                    let Some(members) = channel.topics.get(&*topic.key) else { continue };
                    let cut = topic.key.len() + 1;
                    let block = topic_runs::strip(topic.frames, topic.run, length, cut);
                    let run = Run { count: topic.run.count, bytes: block.len() };
                    let place = place.behind(part.first + topic.first);
                    self.put(members.as_slice(), block, run, info, place);
                }
            }
            _ => {
                // Those of a channel whose last subscription has left in the meantime.
                while topics.next_if(|topic| topic.first < part.first).is_some() {}
                let end = part.first + part.run.count;
                while let Some(topic) = topics.next_if(|topic| topic.first < end) {
                    let Some(members) = channel.topics.get(&*topic.key) else { continue };
                    let block = Bytes::copy_from_slice(topic.frames);
                    let place = place.behind(topic.first);
                    self.put(members.as_slice(), block, topic.run, info, place);
                }
            }
        }
    }

    /// Puts a block into mailboxes.
    fn put(
        &mut self,
        mailboxes: &[Arc<Mailbox>],
        block: Bytes,
        run: Run,
        info: ReceiveInfo,
        place: Place,
    ) {
        let Some((last, others)) = mailboxes.split_last() else { return };
        let (mut count, mut dropped) = (0, 0);
        let mut put = |mailbox: &Mailbox, block: Bytes| {
            let (frames, run) = match &mailbox.filter {
                None => (block, run),
                Some(filter) => filter.apply(block, run),
            };
            if run.count > 0 {
                let (lost, waker) = mailbox.put(frames, run, info, place);
                count += run.count as u64;
                dropped += lost;
                self.woken.wakers.extend(waker);
            }
        };
        for mailbox in others {
            put(mailbox, block.clone());
        }
        // The last one takes the block itself: most topics have one subscription.
        put(last, block);
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
        self.shared.close(self.position);
    }
}

/// The highest number of notifications whose topics, which functions have found, are in memory at the same time.
const FUNCTION_RUN: usize = 512;

/// Returns the topics that functions, of the user or of JSON payloads, find in notifications of channels that have subscriptions to topics.
///
/// The functions run without the lock of the routes: they may subscribe, or drop a subscription. A subscription that has joined before this
/// gets its notifications, because its channel has topics here. One that joins later has no claim to them: they were committed and read
/// before its subscribe returned.
fn topics_by_functions<'a>(shared: &HubShared, frames: &'a [u8]) -> Vec<TopicRun<'a>> {
    if !shared.topics.has_functions() {
        return Vec::new();
    }
    let parts: Vec<_> = {
        let routes = shared.lock();
        by_channel(frames).filter(|part| routes.has_topics(part.key)).collect()
    };
    let mut found = Vec::new();
    for part in parts {
        let topic_of = shared.topics.of(std::str::from_utf8(part.key).unwrap_or_default());
        if !topic_of.is_prefix() {
            let runs = topic_runs::by_function(part.frames, |raw| topic(shared, topic_of, raw));
            found.extend(runs.map(|run| FrameRun { first: part.first + run.first, ..run }));
        }
    }
    found
}

/// Returns the topic that the function of the user finds. It may panic.
fn topic<'a>(
    shared: &HubShared,
    topic_of: &TopicOf,
    raw: &RawNotification<'a>,
) -> Option<Cow<'a, str>> {
    let payload = std::str::from_utf8(raw.payload).ok()?;
    let found = contain(|| topic_of.split(payload));
    let found = found.unwrap_or_else(|panic| {
        shared.topic_panicked(&panic);
        None
    });
    found.map(|(topic, _)| topic)
}
