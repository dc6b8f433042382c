//! [`OutboxSettings`]: what an [`Outbox`](crate::durable::Outbox) is created with.

use std::time::Duration;

use super::payload_type::PayloadType;

/// The settings of a log, which [`Outbox::init`](crate::durable::Outbox::init) stores in the database.
///
/// ```
/// use std::time::Duration;
/// use pgbell::durable::{OutboxSettings, PayloadType};
///
/// let settings = OutboxSettings::new()
///     .payload(PayloadType::Text)
///     .max_age(Duration::from_secs(7 * 24 * 3600))
///     .max_bytes(10 * 1024 * 1024 * 1024);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "it does nothing before it is given to init"]
pub struct OutboxSettings {
    pub(super) payload: PayloadType,
    pub(super) slot_age: Duration,
    pub(super) slot_bytes: u64,
    pub(super) max_age: Option<Duration>,
    pub(super) max_bytes: Option<u64>,
    pub(super) notify: bool,
}

impl Default for OutboxSettings {
    fn default() -> Self {
        Self {
            payload: PayloadType::default(),
            slot_age: Duration::from_secs(600),
            slot_bytes: 256 * 1024 * 1024,
            max_age: None,
            max_bytes: None,
            notify: false,
        }
    }
}

impl OutboxSettings {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the type of the payloads, by default [`PayloadType::Json`]. It cannot be changed later.
    pub fn payload(mut self, payload: PayloadType) -> Self {
        self.payload = payload;
        self
    }

    /// Sets when records are written to another partition: when the current one is older than this, by default 10 minutes, or larger than
    /// [`partition_bytes`](Self::partition_bytes). A partition is emptied at once, when every cursor has acknowledged all of it.
    pub fn partition_age(mut self, age: Duration) -> Self {
        self.slot_age = age;
        self
    }

    /// See [`partition_age`](Self::partition_age). By default 256 MiB, with the indexes. With [`max_bytes`](Self::max_bytes) a partition has at most
    /// a third of that.
    pub fn partition_bytes(mut self, bytes: u64) -> Self {
        self.slot_bytes = bytes;
        self
    }

    /// Sets a limit: a partition whose newest record is older than this is emptied, even if a cursor has not acknowledged all of it. That cursor
    /// receives a [`LogGap`](crate::durable::LogGap). By default there is none: one cursor that is never read keeps all records.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Sets a limit for the size of all partitions with their indexes, in bytes: the oldest partition is emptied when they are larger. See
    /// [`max_age`](Self::max_age).
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Sets whether a trigger of the log sends a notification with each transaction that writes records, by default false.
    ///
    /// The trigger wakes the readers without a call of the application. It costs what NOTIFY costs: commits that notify wait for each other, also
    /// while they are flushed, and PREPARE TRANSACTION fails. With [`Notifier::nudge`](crate::Notifier::nudge) after the commit they do not.
    pub fn notify_on_commit(mut self, notify: bool) -> Self {
        self.notify = notify;
        self
    }
}
