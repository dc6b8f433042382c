//! A log for each channel: blocks behind one lock, and a position for each subscription. A block leaves the log when every subscription has
//! passed it, or when the log is full.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use super::{Block, Inbox, Structure};

/// The highest number of blocks in a log.
const CAPACITY: usize = 16_384;

#[derive(Debug, Default)]
struct Content {
    blocks: VecDeque<Kept>,
    /// The position of the first block.
    first: u64,
    subscriptions: usize,
    /// The wakers of the subscriptions that sleep.
    wakers: Vec<Waker>,
}

#[derive(Debug)]
struct Kept {
    block: Block,
    /// The subscriptions that have not passed it.
    unread: usize,
}

#[derive(Debug, Default)]
pub struct Log(Arc<Mutex<Content>>);

#[derive(Debug)]
pub struct Cursor {
    log: Arc<Mutex<Content>>,
    next: u64,
    /// The blocks that left the log unread.
    lost: u64,
}

impl Structure for Log {
    const NAME: &'static str = "a log, a cursor each";
    type Inbox = Cursor;

    fn open(subscriptions: usize) -> (Self, Vec<Cursor>) {
        let log = Arc::new(Mutex::new(Content { subscriptions, ..Content::default() }));
        let cursor = |_| Cursor { log: log.clone(), next: 0, lost: 0 };
        let cursors = (0..subscriptions).map(cursor).collect();
        (Self(log), cursors)
    }

    fn push(&self, block: &Block, woken: &mut Vec<Waker>) {
        let mut content = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if content.blocks.len() >= CAPACITY {
            content.blocks.pop_front();
            content.first += 1;
        }
        let unread = content.subscriptions;
        content.blocks.push_back(Kept { block: block.clone(), unread });
        woken.append(&mut content.wakers);
    }
}

impl Inbox for Cursor {
    fn take(&mut self) -> Option<Block> {
        let mut content = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = content.first.saturating_sub(self.next);
        (self.next, self.lost) = (self.next + behind, self.lost + behind);
        let at = usize::try_from(self.next - content.first).unwrap_or(usize::MAX);
        let Some(kept) = content.blocks.get_mut(at) else {
            content.wakers.push(Waker::noop().clone());
            return None;
        };
        self.next += 1;
        kept.unread -= 1;
        if kept.unread > 0 {
            return Some(kept.block.clone());
        }
        // The last one takes it out. Only the oldest block can be the one that all have passed.
        let block = content.blocks.pop_front()?.block;
        content.first += 1;
        Some(block)
    }
}
