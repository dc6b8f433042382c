//! Frames as a server sends them, and reads of them.

use bytes::BytesMut;
use pgbell::proto::wire::{BackendMessage, RawNotification};

use super::digest::Digest;
use crate::rivals::path::Visitor;

/// Bytes of each frame: 8 of channel, 32 of payload, 11 of the protocol.
pub const FRAME_BYTES: usize = 51;

/// A lap of encoded notifications, which is repeated.
#[derive(Debug)]
pub struct Traffic {
    frames: Vec<u8>,
    /// Per notification of the lap, the number of its channel.
    channels: Vec<usize>,
    names: Vec<Box<[u8]>>,
    /// Notifications in one read.
    pub per_read: usize,
}

impl Traffic {
    /// Makes notifications on one channel, as for a listener.
    pub fn of_one_channel(per_read: usize) -> Self {
        // Divided by every number of notifications per read that is measured.
        Self::new(1, per_read, vec![0; 4_800])
    }

    /// Makes `run` notifications for one subscriber, then as many for the next one, 16 times for each.
    pub fn of_subscribers(subscribers: usize, run: usize, per_read: usize) -> Self {
        let lap = 16 * subscribers;
        let channels = (0..lap).map(|n| n / run % subscribers).collect();
        Self::new(subscribers, per_read, channels)
    }

    fn new(channel_count: usize, per_read: usize, channels: Vec<usize>) -> Self {
        assert_eq!(channels.len() % per_read, 0, "a lap ends with a read");
        let names: Vec<Box<[u8]>> =
            (0..channel_count).map(|n| format!("sub_{n:04}").into_bytes().into()).collect();
        let mut frames = BytesMut::new();
        for (n, channel) in channels.iter().enumerate() {
            let payload = format!("{n:032}");
            let raw = RawNotification {
                process_id: 4_711,
                channel: &names[*channel],
                payload: payload.as_bytes(),
            };
            let message = BackendMessage::NotificationResponse(raw);
            message.encode(&mut frames).expect("a legal notification");
        }
        assert_eq!(frames.len(), channels.len() * FRAME_BYTES);
        Self { frames: frames.to_vec(), channels, names, per_read }
    }

    pub fn names(&self) -> &[Box<[u8]>] {
        &self.names
    }

    /// Bytes of one read.
    pub fn read_bytes(&self) -> usize {
        self.per_read * FRAME_BYTES
    }

    /// Returns the bytes of the read with this number, counted from the first one.
    #[inline]
    pub fn read(&self, number: u64) -> &[u8] {
        let reads = self.channels.len() / self.per_read;
        let nth = usize::try_from(number % reads as u64).expect("a number within the lap");
        &self.frames[nth * self.read_bytes()..][..self.read_bytes()]
    }

    /// Returns what the consumer of one channel must have seen after this number of reads if the first `kept` notifications
    /// were delivered and all others lost.
    pub fn digest_of_first(&self, kept: u64, reads: u64) -> Digest {
        let mut digest = Digest::default();
        let all = (0..reads).flat_map(|read| pgbell::proto::wire::frames(self.read(read)));
        for (n, sequence) in all.zip(0..kept) {
            digest.notification(sequence, n.channel, n.payload);
        }
        let lost = reads * self.per_read as u64 - digest.delivered;
        digest.lost(digest.delivered, lost);
        digest
    }

    /// Returns what each subscriber must have seen after this number of reads, if it lost nothing.
    pub fn digests(&self, reads: u64) -> Vec<Digest> {
        let mut digests = vec![Digest::default(); self.names.len()];
        for read in 0..reads {
            for n in pgbell::proto::wire::frames(self.read(read)) {
                let number = crate::rivals::hub::number(n.channel);
                let digest = &mut digests[number];
                digest.notification(digest.next(), n.channel, n.payload);
            }
        }
        digests
    }
}
