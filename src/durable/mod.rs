//! A log in a table, which is read by position: nothing that was committed is missed.
//!
//! A notification that is sent while nothing listens is lost. What must not be lost belongs into a table, and the notification only wakes its
//! reader. The usual way to read such a table, `WHERE id > $1`, skips the records of transactions that commit late, because their ids are
//! assigned before. The usual cure, to wait for the oldest transaction in progress, delivers nothing while any transaction of the cluster is
//! open. The position of a [`Cursor`] is a snapshot instead, so it does neither.
//!
//! - [`Outbox`] creates, checks and manages the table.
//! - [`Cursor`] reads it, in [batches](Batch) of [records](Record), at least once, in the order of each key. With a [`Receipt`] the effects in the same
//!   database happen exactly once.
//! - [`Mirror`] is a table or a query in memory that follows the database: it needs no log, only a notification with the key of each changed row.
//! - [`MemoryOutbox`] is a log in memory with the same cursors, for tests without a server.
//! - [`pgmq`] has queues of pgmq, with a consumer that is woken.

mod array;
mod batch;
mod check;
mod cursor;
mod cursor_builder;
mod cursor_handle;
mod cursor_wait;
mod gap;
mod memory;
mod mirror;
mod names;
mod outbox;
mod page;
mod payload_type;
pub mod pgmq;
mod position;
mod prepared;
mod record;
mod refusal;
mod rewinds;
mod rotation;
mod server;
mod session;
mod settings;
mod snapshot;
mod source;
mod start;
mod stats;
mod status;
mod telemetry;
#[cfg(test)]
mod tests;

pub use self::batch::{Batch, Receipt};
pub use self::cursor::Cursor;
pub use self::cursor_builder::CursorBuilder;
pub use self::cursor_handle::CursorHandle;
pub use self::cursor_wait::CursorWait;
pub use self::gap::LogGap;
pub use self::memory::{MemoryOutbox, MemoryTransaction};
pub use self::mirror::{
    Mirror, MirrorBuilder, MirrorKeyWatch, MirrorRow, MirrorSnapshot, MirrorSource, MirrorStats,
    MirrorStatus, MirrorWatch,
};
pub use self::outbox::Outbox;
pub use self::payload_type::PayloadType;
pub use self::record::Record;
pub use self::rotation::Rotation;
pub use self::settings::OutboxSettings;
pub use self::start::Start;
pub use self::stats::CursorStats;
pub use self::status::{CursorStatus, OutboxStatus};
