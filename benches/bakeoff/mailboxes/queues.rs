//! Queues of other crates for each subscription. They have no limits and no place for gaps.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crossbeam_queue::SegQueue;
use tokio::sync::mpsc;

use super::{Block, Inbox, Structure};
use crate::rivals::doze::Doze;

/// The senders of one channel.
#[derive(Debug)]
pub struct Mpsc(Vec<mpsc::UnboundedSender<Block>>);

impl Structure for Mpsc {
    const NAME: &'static str = "tokio mpsc each";
    type Inbox = mpsc::UnboundedReceiver<Block>;

    fn open(subscriptions: usize) -> (Self, Vec<Self::Inbox>) {
        let (senders, receivers) = (0..subscriptions).map(|_| mpsc::unbounded_channel()).unzip();
        (Self(senders), receivers)
    }

    /// It wakes by itself.
    fn push(&self, block: &Block, _woken: &mut Vec<Waker>) {
        for sender in &self.0 {
            sender.send(block.clone()).expect("the receiver is there");
        }
    }
}

impl Inbox for mpsc::UnboundedReceiver<Block> {
    fn take(&mut self) -> Option<Block> {
        match self.poll_recv(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(block) => block,
            Poll::Pending => None,
        }
    }
}

#[derive(Debug, Default)]
pub struct SegInbox {
    queue: SegQueue<Block>,
    doze: Doze,
}

/// The queues of one channel.
#[derive(Debug)]
pub struct Seg(Vec<Arc<SegInbox>>);

impl Structure for Seg {
    const NAME: &'static str = "crossbeam SegQueue each";
    type Inbox = Arc<SegInbox>;

    fn open(subscriptions: usize) -> (Self, Vec<Arc<SegInbox>>) {
        let inboxes: Vec<Arc<SegInbox>> = (0..subscriptions).map(|_| Arc::default()).collect();
        (Self(inboxes.clone()), inboxes)
    }

    fn push(&self, block: &Block, _woken: &mut Vec<Waker>) {
        for inbox in &self.0 {
            inbox.queue.push(block.clone());
            inbox.doze.wake();
        }
    }
}

impl Inbox for Arc<SegInbox> {
    fn take(&mut self) -> Option<Block> {
        self.queue.pop().or_else(|| {
            self.doze.prepare(&Context::from_waker(Waker::noop()));
            self.queue.pop()
        })
    }
}
