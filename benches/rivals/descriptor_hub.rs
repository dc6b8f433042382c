//! Many subscribers on one reader, descriptors for each: they are written straight into the subscriber's
//! own table, and a handle of the segment follows them.

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use pgbell::proto::wire::frames;

use super::descriptors::{Descriptor, DescriptorConsumer, FRAME_BYTES_MIN, Handle, Names, Table};
use super::fifo::Rtrb;
use super::hub::{FanOut, Hub, number};
use super::path::discard;
use super::positioned::{Positioned, PositionedSender};
use super::{Limits, Queue, Sender};

pub struct DescriptorFanOut;

impl FanOut for DescriptorFanOut {
    const NAME: &'static str = "descriptors";
    const EVICTS: bool = false;

    type Hub = DescriptorHub;
    type Consumer = DescriptorConsumer;

    fn open(unread_max: u64, channels: &[Box<[u8]>]) -> (DescriptorHub, Vec<DescriptorConsumer>) {
        let names: Names = Arc::from(channels);
        let (subscribers, consumers) = channels
            .iter()
            .map(|_| {
                let (handles, receiver) = Positioned::<Rtrb>::channel(unread_max);
                let table = Table::new(unread_max);
                let consumer = DescriptorConsumer::new(receiver, table.clone(), names.clone());
                let now = Now::default();
                (Subscriber { handles, table, next: 0, now }, consumer)
            })
            .unzip();
        let limits = Limits { notifications: unread_max, bytes: u64::MAX / 2 };
        (DescriptorHub { subscribers, limits, touched: Vec::new() }, consumers)
    }
}

struct Subscriber {
    handles: PositionedSender<Rtrb, Handle>,
    table: Table,
    /// Position of the next descriptor.
    next: u64,
    now: Now,
}

/// Of the present read.
#[derive(Default)]
struct Now {
    room: u64,
    count: u64,
    bytes: u64,
    dropped: u64,
}

pub struct DescriptorHub {
    subscribers: Vec<Subscriber>,
    limits: Limits,
    touched: Vec<usize>,
}

impl DescriptorHub {
    /// Writes all descriptors that have room. Returns the bytes of all notifications, and how many of them
    /// a subscriber gets.
    fn route(&mut self, input: &[u8]) -> (usize, u64) {
        self.touched.clear();
        // With a bound the position of the receiver is rarely read.
        let most = (input.len() / FRAME_BYTES_MIN) as u64;
        let (mut frames, mut end, mut kept) = (frames(input), 0, 0);
        while let Some(n) = frames.next() {
            let start = mem::replace(&mut end, input.len() - frames.remaining().len());
            let number = number(n.channel);
            let Subscriber { handles, table, next, now } = &mut self.subscribers[number];
            if now.count + now.dropped == 0 {
                self.touched.push(number);
                now.room = if handles.has_room(self.limits, most, 0) {
                    most
                } else {
                    self.limits.notifications.saturating_sub(handles.unread())
                };
            }
            if now.count < now.room {
                table.set(*next + now.count, Descriptor::new(number, start, end - start));
                now.count += 1;
                now.bytes += (end - start) as u64;
                kept += 1;
            } else {
                now.dropped += 1;
            }
        }
        (end, kept)
    }
}

impl Hub for DescriptorHub {
    fn read(&mut self, input: &mut BytesMut) {
        let (bytes, kept) = self.route(input);
        let segment = if kept == 0 {
            discard(input, bytes);
            None
        } else {
            Some(input.split_to(bytes).freeze())
        };
        for &number in &self.touched {
            let Subscriber { handles, next, now, .. } = &mut self.subscribers[number];
            let Now { count, bytes, dropped, .. } = mem::take(now);
            if let (Some(segment), 1..) = (&segment, count) {
                let handle = Handle { segment: segment.clone(), at: *next, count };
                *next += count;
                handles.push(handle, count, bytes);
            }
            handles.skip(dropped);
            handles.publish();
        }
    }

    fn touched(&self) -> &[usize] {
        &self.touched
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, subscriber: usize, count: u64) -> Poll<()> {
        self.subscribers[subscriber].handles.poll_room(cx, self.limits, count, 0)
    }

    fn evict(&mut self) -> bool {
        false
    }
}
