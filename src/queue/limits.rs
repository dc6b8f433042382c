//! The default limits of a queue.

/// The highest number of notifications in the queue, by default.
pub(crate) const QUEUE_CAPACITY: usize = 16_384;

/// The highest number of bytes of notifications in the queue, by default: 8 MiB.
pub(crate) const QUEUE_BYTES: usize = 8 * 1024 * 1024;

/// The highest number of bytes of receive buffers that are pinned, by default: 8 MiB, as many as may be queued. So a consumer
/// that passes on whole batches can keep as much as is queued.
pub(crate) const PIN_LIMIT_BYTES: usize = 8 * 1024 * 1024;

/// Slots beyond the capacity, each for one read: notifications that arrive before the answer to a command may exceed the
/// capacity. Together with the ring's extra slot, its positions and the slots of its marks they take 132 KiB.
pub(crate) const SURPLUS_SLOTS: u64 = 1_016;
