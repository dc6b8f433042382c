//! The mailbox of the library: a deque behind a mutex, for each subscription. It is built again here, with entries of the same size,
//! because that of the library is private.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::SystemTime;

use super::{Block, Inbox, Structure};

/// The number of entries for which an empty mailbox keeps memory, as in the library.
const IDLE_ENTRIES: usize = 1;

/// The highest number of unread notifications.
const CAPACITY: u64 = 1 << 20;

/// The position in the stream, and what else belongs to an entry in the library.
#[derive(Debug)]
struct Entry {
    _at: u64,
    _hold: u32,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Run(UnreadRun),
    #[allow(dead_code, reason = "only for its size")]
    Lost(u64, u64),
    #[allow(dead_code, reason = "only for its size")]
    Gap(Arc<()>),
}

#[derive(Debug)]
struct UnreadRun {
    block: Block,
    _first: u64,
    _info: ReceiveInfo,
    _block_bytes: usize,
}

#[derive(Debug)]
struct ReceiveInfo {
    _received_at: SystemTime,
    _epoch: u32,
}

#[derive(Debug, Default)]
struct Content {
    entries: VecDeque<Entry>,
    unread: u64,
    unread_bytes: u64,
    next: u64,
    dropped: u64,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
pub struct Mailbox(Mutex<Content>);

/// The mailboxes of one channel.
#[derive(Debug)]
pub struct Locked(Vec<Arc<Mailbox>>);

impl Structure for Locked {
    const NAME: &'static str = "a locked deque each";
    type Inbox = Arc<Mailbox>;

    fn open(subscriptions: usize) -> (Self, Vec<Arc<Mailbox>>) {
        let inboxes: Vec<Arc<Mailbox>> = (0..subscriptions).map(|_| Arc::default()).collect();
        (Self(inboxes.clone()), inboxes)
    }

    fn push(&self, block: &Block, woken: &mut Vec<Waker>) {
        for mailbox in &self.0 {
            let mut content = mailbox.0.lock().unwrap_or_else(PoisonError::into_inner);
            if content.unread + block.count as u64 > CAPACITY {
                content.dropped += block.count as u64;
                continue;
            }
            content.unread += block.count as u64;
            content.unread_bytes += block.frames.len() as u64;
            let first = content.next;
            content.next += block.count as u64;
            if content.entries.capacity() == 0 {
                content.entries.reserve_exact(IDLE_ENTRIES);
            }
            let run = UnreadRun {
                block: block.clone(),
                _first: first,
                _info: ReceiveInfo { _received_at: SystemTime::UNIX_EPOCH, _epoch: 0 },
                _block_bytes: block.frames.len(),
            };
            content.entries.push_back(Entry { _at: first, _hold: 0, kind: Kind::Run(run) });
            woken.extend(content.waker.take());
        }
    }
}

impl Inbox for Arc<Mailbox> {
    fn take(&mut self) -> Option<Block> {
        let mut content = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Entry { kind: Kind::Run(UnreadRun { block, .. }), .. }) =
            content.entries.pop_front()
        else {
            content.waker = Some(Waker::noop().clone());
            if content.entries.capacity() > IDLE_ENTRIES {
                content.entries = VecDeque::new();
            }
            return None;
        };
        content.unread -= block.count as u64;
        content.unread_bytes -= block.frames.len() as u64;
        Some(block)
    }
}
