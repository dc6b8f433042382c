//! A queue that records what was put into it, and what the consumer can see.

use std::collections::VecDeque;

use bytes::BytesMut;

use crate::notification::{Gap, Lagged, ReceiveInfo};
use crate::proto::supervisor::{PlacedGap, Scope, Sink, StreamPosition};
use crate::proto::wire::{self, Run};

/// A queue with this capacity.
#[derive(Debug)]
pub(super) struct TestQueue {
    pub(super) capacity: usize,
    pub(super) unread: usize,
    pub(super) taken: u64,
    pub(super) lost: u64,
    pub(super) log: Vec<String>,
    pub(super) published: bool,
    pub(super) held: bool,
    pub(super) gaps: Vec<Gap>,
    /// True if the server may send the fence notification at any time.
    pub(super) lies: bool,
    stamp: Option<ReceiveInfo>,
    /// The items that the consumer has not seen, each with its position.
    story: VecDeque<(u64, String)>,
    /// The number of items that are shown.
    shown: usize,
}

impl TestQueue {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            unread: 0,
            taken: 0,
            lost: 0,
            log: Vec::new(),
            published: true,
            held: false,
            gaps: Vec::new(),
            lies: false,
            stamp: None,
            story: VecDeque::new(),
            shown: 0,
        }
    }

    /// Takes what the consumer can see: payloads and gaps.
    pub(super) fn take_seen(&mut self) -> Vec<String> {
        let shown = std::mem::take(&mut self.shown);
        self.story.drain(..shown).map(|(_, what)| what).collect()
    }

    /// Returns the receive information of the last notification.
    pub(super) fn last_stamp(&self) -> ReceiveInfo {
        self.stamp.expect("a notification")
    }
}

impl Sink for TestQueue {
    fn fits(&self, frames: &[u8], run: Run, surplus: bool) -> Run {
        let room = if surplus { usize::MAX } else { self.capacity.saturating_sub(self.unread) };
        if run.count <= room { run } else { Run::first(room, frames) }
    }

    fn notifications(&mut self, input: &mut BytesMut, run: Run, stamp: ReceiveInfo, surplus: bool) {
        let last = self.stamp.replace(stamp);
        assert!(last.is_none_or(|last| last.epoch <= stamp.epoch), "sessions do not come back");
        let fits = self.fits(input, run, surplus);
        let frames = input.split_to(run.bytes);
        assert_eq!(wire::frames(&frames).count(), run.count);
        for (index, one) in wire::frames(&frames).take(fits.count).enumerate() {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (channel, payload) = (text(one.channel), text(one.payload));
            let is_fence = channel.starts_with("pgbell_");
            assert!(self.lies || !is_fence, "the fence notification is delivered");
            self.story.push_back((self.taken + index as u64, payload));
        }
        self.taken += run.count as u64;
        self.unread += fits.count;
        if fits.count > 0 {
            self.log.push(format!("{} notifications", fits.count));
        }
        let count = (run.count - fits.count) as u64;
        if count > 0 {
            self.lost += count;
            self.log.push(Lagged { first_sequence: self.taken - count, count }.to_string());
        }
        self.published = false;
    }

    fn publish(&mut self) {
        self.published = true;
        if !self.held {
            self.shown = self.story.len();
        }
    }

    fn is_empty(&self) -> bool {
        self.unread == 0
    }

    fn hold(&mut self, scope: &Scope) -> StreamPosition {
        self.publish();
        self.held = true;
        self.log.push(match scope {
            Scope::All => "hold".to_owned(),
            Scope::Channels(channels) => format!("hold {}", channels.join(" ")),
        });
        StreamPosition(self.taken)
    }

    fn release(&mut self, gaps: Vec<PlacedGap>) {
        let mut last = 0;
        for PlacedGap { position: StreamPosition(position), gap, .. } in gaps {
            assert!(position >= last, "gaps in order");
            last = position;
            self.log.push(format!("gap at {position}: {gap}"));
            let index = self.story.iter().rposition(|(at, what)| *at < position || what == "GAP");
            let index = index.map_or(0, |index| index + 1);
            assert!(index >= self.shown, "a gap before what was shown");
            self.story.insert(index, (position, "GAP".to_owned()));
            self.gaps.push(gap);
        }
        self.held = false;
        self.publish();
    }
}
