//! The shape of notifications: size, number of channels, and the bytes of notification `n`.

use clap::Args;
use pgbell::proto::wire::{BackendMessage, RawNotification};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::outcome::Outcome;

/// The type byte, the length word, the process id and two NULs.
const FRAME_OVERHEAD_BYTES: usize = 11;

/// The longest channel name of a default-built server.
const CHANNEL_BYTES_MAX: usize = 63;

/// The longest payload of a default-built server.
const PAYLOAD_BYTES_MAX: usize = 7_999;

/// The length of a channel name, if the frame has room for it.
const CHANNEL_BYTES: usize = 8;

/// Notifications of one size, sent to the channels in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Args, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// Bytes of a notification on the wire.
    #[arg(long = "size", default_value_t = 51)]
    pub(crate) size: usize,
    /// Channels, round robin.
    #[arg(long = "channels", default_value_t = 1)]
    pub(crate) channels: u64,
    /// Topics, round robin. Without them a payload has no topic; with them each topic is on one of the channels.
    #[arg(long = "topics", default_value_t = 0)]
    pub(crate) topics: u64,
    /// Consecutive notifications of one topic.
    #[arg(long = "run", default_value_t = 1)]
    pub(crate) run: u64,
}

impl Shape {
    /// The shape of the main heats.
    pub(crate) const MAIN: Self = Self { size: 51, channels: 1, topics: 0, run: 1 };

    /// Returns the shape, if such notifications exist.
    pub(crate) fn checked(self) -> Outcome<Self> {
        let room = self.size.checked_sub(FRAME_OVERHEAD_BYTES + self.channel_bytes_min());
        let longest = FRAME_OVERHEAD_BYTES + CHANNEL_BYTES_MAX + PAYLOAD_BYTES_MAX;
        if self.channels == 0 || self.run == 0 || room.is_none() || self.size > longest {
            return Err(format!(
                "no notification takes {} bytes on one of {} channels",
                self.size, self.channels
            )
            .into());
        }
        if self.topics > 0 && self.payload_bytes() <= self.topic(0).len() + 1 {
            return Err(format!("a payload of {} bytes has no topic", self.payload_bytes()).into());
        }
        Ok(self)
    }

    /// Returns whether `count` notifications are all different: a server sends equal ones once.
    pub(crate) fn is_unique(&self, count: u64) -> bool {
        let digits = u32::try_from(self.payload_bytes().min(18)).unwrap_or(18);
        count <= 10_u64.pow(digits).saturating_mul(self.channels)
    }

    fn channel_bytes_min(&self) -> usize {
        match self.channels {
            0 | 1 => 1,
            several => 1 + (several - 1).to_string().len(),
        }
    }

    pub(crate) fn channel_bytes(&self) -> usize {
        let text = self.size - FRAME_OVERHEAD_BYTES;
        if text < 2 * CHANNEL_BYTES {
            return self.channel_bytes_min();
        }
        CHANNEL_BYTES.max(text.saturating_sub(PAYLOAD_BYTES_MAX)).max(self.channel_bytes_min())
    }

    pub(crate) fn payload_bytes(&self) -> usize {
        self.size - FRAME_OVERHEAD_BYTES - self.channel_bytes()
    }

    pub(crate) fn channel(&self, index: u64) -> String {
        match self.channel_bytes() - 1 {
            0 => "c".to_owned(),
            digits => format!("c{index:0digits$}"),
        }
    }

    pub(crate) fn all_channels(&self) -> Vec<String> {
        (0..self.channels).map(|index| self.channel(index)).collect()
    }

    /// `LISTEN a; LISTEN b`
    pub(crate) fn listen_sql(&self) -> String {
        let all: Vec<String> =
            self.all_channels().iter().map(|channel| format!("LISTEN {channel}")).collect();
        all.join("; ")
    }

    /// Returns one statement that sends `count` notifications from `first` on in one transaction, the same as [`block`](Block::new).
    pub(crate) fn notify_sql(&self, first: u64, count: u64) -> String {
        let (channels, digits) = (self.channels, self.channel_bytes() - 1);
        let (payload, topics, run) = (self.payload_bytes(), self.topics, self.run);
        if topics > 0 {
            let (topic, digits_of_topic) = (format!("(n / {run}) % {topics}"), self.topic_digits());
            let rest = payload - self.topic(0).len() - 1;
            return format!(
                "SELECT count(pg_notify('c' || lpad(({topic} % {channels})::text, {digits}, '0'), \
                 't' || lpad(({topic})::text, {digits_of_topic}, '0') || ':' || \
                 lpad(n::text, {rest}, '0'))) \
                 FROM generate_series({first}::bigint, {first} + {count} - 1) AS n"
            );
        }
        format!(
            "SELECT count(pg_notify('c' || lpad((n % {channels})::text, {digits}, '0'), \
             lpad((n / {channels})::text, {payload}, '0'))) \
             FROM generate_series({first}::bigint, {first} + {count} - 1) AS n"
        )
    }

    /// Returns notification `n`: its channel, its payload, and where in the payload that part begins that a subscription to its
    /// topic receives. The payload contains its number within the channel, or behind a topic its number.
    pub(crate) fn notification(&self, n: u64) -> (String, String, usize) {
        let Some(topic) = (n / self.run).checked_rem(self.topics) else {
            return (self.channel(n % self.channels), self.payload(n / self.channels), 0);
        };
        let name = self.topic(topic);
        let (begin, digits) = (name.len() + 1, self.payload_bytes() - name.len() - 1);
        (self.channel_of(topic), format!("{name}:{n:0digits$}"), begin)
    }

    fn topic_digits(&self) -> usize {
        self.topics.saturating_sub(1).to_string().len()
    }

    /// Returns the name of a topic.
    pub(crate) fn topic(&self, index: u64) -> String {
        let digits = self.topic_digits();
        format!("t{index:0digits$}")
    }

    /// Returns the channel of a topic.
    pub(crate) fn channel_of(&self, topic: u64) -> String {
        self.channel(topic % self.channels)
    }

    /// Returns the payload that contains a number.
    pub(crate) fn payload(&self, number: u64) -> String {
        let digits = self.payload_bytes();
        format!("{number:0digits$}")
    }

    /// Returns the digest of the notifications `0..count`, without their topics.
    pub(crate) fn digest(&self, count: u64) -> Digest {
        let mut digest = Digest::default();
        for n in 0..count {
            let (channel, payload, begin) = self.notification(n);
            digest.add(channel.as_bytes(), &payload.as_bytes()[begin..]);
        }
        digest
    }
}

/// Encoded notifications, which are sent repeatedly.
#[derive(Debug)]
pub(crate) struct Block {
    shape: Shape,
    /// The number of its notifications.
    count: u64,
    pub(crate) bytes: Vec<u8>,
    digest: Digest,
}

impl Block {
    /// Returns a block of about `bytes` bytes, with the same number of notifications for each channel, or each topic.
    pub(crate) fn new(shape: Shape, bytes: usize) -> Outcome<Self> {
        let every = match shape.topics {
            0 => shape.channels,
            topics => topics * shape.run,
        };
        let rounds = bytes as u64 / (shape.size as u64 * every);
        let count = rounds.max(1) * every;
        let mut out = bytes::BytesMut::new();
        for n in 0..count {
            let (channel, payload, _) = shape.notification(n);
            let raw = RawNotification {
                process_id: 4_711,
                channel: channel.as_bytes(),
                payload: payload.as_bytes(),
            };
            BackendMessage::NotificationResponse(raw).encode(&mut out)?;
        }
        if out.len() as u64 != count * shape.size as u64 {
            return Err(
                format!("a block of {} bytes does not have {count} frames", out.len()).into()
            );
        }
        Ok(Self { shape, count, bytes: out.to_vec(), digest: shape.digest(count) })
    }

    /// Returns the digest of `count` notifications: the block repeated, then its beginning.
    pub(crate) fn digest(&self, count: u64) -> Digest {
        let whole = self.digest.times(count / self.count);
        whole.and(&self.shape.digest(count % self.count))
    }

    /// Returns the slices of the block that contain `count` notifications.
    pub(crate) fn slices(&self, count: u64) -> impl Iterator<Item = &[u8]> {
        let rest = self.bytes.chunks(self.shape.size).zip(0..count % self.count).count();
        let rest = &self.bytes[..rest * self.shape.size];
        let whole = (0..count / self.count).map(|_| &self.bytes[..]);
        whole.chain((!rest.is_empty()).then_some(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::{Block, Shape};
    use crate::digest::Digest;

    #[test]
    fn frames_have_the_requested_size() {
        for size in [19, 51, 127, 256, 1_031, 4_096, 8_073] {
            for channels in [1, 16, 1_000] {
                let shape = Shape { size, channels, ..Shape::MAIN }.checked().unwrap();
                let block = Block::new(shape, 10_000).unwrap();
                let (run, _) = pgbell::proto::wire::scan(&block.bytes);
                assert_eq!(run.bytes, block.bytes.len());
                let sent: usize = block.slices(2_345).map(<[u8]>::len).sum();
                assert_eq!(sent, 2_345 * size);
                assert_eq!(block.digest(2_345).count, 2_345);
                assert!(shape.is_unique(1_000_000));
            }
        }
        for (size, channels) in [(11, 1), (15, 10_000), (8_074, 1), (51, 0)] {
            assert!(Shape { size, channels, ..Shape::MAIN }.checked().is_err());
        }
    }

    #[test]
    fn a_run_of_a_topic_is_on_one_channel_and_its_topic_is_not_in_the_digest() {
        let shape = Shape { size: 51, channels: 2, topics: 10, run: 3 }.checked().unwrap();
        let (channel, payload, begin) = shape.notification(5);
        assert_eq!((&*channel, &payload[..begin]), ("c0000001", "t1:"));
        assert_eq!(shape.notification(29).1[..3], *"t9:");
        assert_eq!(shape.notification(30).1[..3], *"t0:");
        let mut digest = Digest::default();
        for n in 0..7 {
            let (channel, payload, begin) = shape.notification(n);
            assert_eq!(payload.len(), 32);
            digest.add(channel.as_bytes(), &payload.as_bytes()[begin..]);
        }
        assert_eq!(shape.digest(7), digest);
        // Each topic as often as the others.
        assert_eq!(Block::new(shape, 2_000).unwrap().digest(30).count, 30);
        assert!(Shape { size: 15, ..shape }.checked().is_err());
    }
}
