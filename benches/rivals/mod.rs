//! The ring and other designs behind one set of traits, so that the same loads go through all of them.
//!
//! They are not part of the library. They stay here so that the measurement can be repeated.
//!
//! | module | what |
//! |---|---|
//! | [`library`] | the library's ring |
//! | [`swap_ring`] | slots are words, items are in boxes whose numbers are passed on |
//! | [`positioned`] | one node per run in a queue of another crate, with the ring's counting by positions |
//! | [`fifo`] | those queues: rtrb, crossbeam's two, tokio's channel |
//! | [`descriptors`] | one descriptor per notification beside a queue of receive segments |
//! | [`doze`] | sleeping and waking with one read of a flag |
//! | [`path`] | the whole path of a listener through any of them |
//! | [`hub`], [`descriptor_hub`] | many subscribers on one reader |

pub mod descriptor_hub;
pub mod descriptors;
pub mod doze;
pub mod fifo;
pub mod hub;
pub mod library;
pub mod path;
pub mod positioned;
pub mod swap_ring;

use std::task::{Context, Poll};

use pgbell::proto::ring;

/// What a receiver gets. The other designs have no marks.
pub type Taken<T> = ring::Taken<T, ()>;

/// The highest numbers that may be unread.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub notifications: u64,
    pub bytes: u64,
}

/// Notifications and their bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    notifications: u64,
    bytes: u64,
}

impl Count {
    /// Returns whether an amount fits, after the given amounts were put in and taken.
    fn fits(self, taken: Self, limits: Limits, count: u64, bytes: u64) -> bool {
        self.notifications + count <= limits.notifications + taken.notifications
            && self.bytes + bytes <= limits.bytes + taken.bytes
    }
}

/// A queue design from one sender to one receiver.
pub trait Queue: 'static {
    const NAME: &'static str;
    /// Whether the sender can evict items that the receiver has not read.
    const EVICTS: bool;

    type Sender<T: Send + 'static>: Sender<T> + Send + 'static;
    type Receiver<T: Send + 'static>: Receiver<T> + Send + 'static;

    /// Makes a queue with at least `slots` slots, if slots are preallocated.
    fn channel<T: Send + 'static>(slots: u64) -> (Self::Sender<T>, Self::Receiver<T>);
}

pub trait Sender<T> {
    /// Unread notifications.
    fn unread(&self) -> u64;

    fn unread_bytes(&self) -> u64;

    /// Returns whether an amount fits. May read less than `unread` does.
    fn has_room(&mut self, limits: Limits, count: u64, bytes: u64) -> bool;

    /// Puts an item in. The caller must have checked that there is room.
    fn push(&mut self, value: T, count: u64, bytes: u64);

    /// Counts notifications as received and lost.
    fn skip(&mut self, count: u64);

    fn publish(&mut self);

    /// Evicts the oldest unread item, whose notifications are then lost.
    fn evict(&mut self) -> bool;

    /// Waits until an amount fits.
    fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        limits: Limits,
        count: u64,
        bytes: u64,
    ) -> Poll<()>;
}

pub trait Receiver<T> {
    fn try_take(&mut self) -> Taken<T>;

    /// Never `Ready(Taken::Empty)`.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Taken<T>>;
}

/// A value alone on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Pad<T>(pub T);

impl<T> std::ops::Deref for Pad<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
