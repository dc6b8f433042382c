//! [`MemoryRecord`]: a record of a log in memory.

use std::time::SystemTime;

/// A record without its id.
#[derive(Clone)]
pub(super) struct Content {
    pub(super) key: String,
    pub(super) payload: String,
    pub(super) headers: Option<String>,
    pub(super) written_at: SystemTime,
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::durable) struct MemoryRecord {
    pub(in crate::durable) id: i64,
    pub(in crate::durable) key: String,
    pub(in crate::durable) payload: String,
    pub(in crate::durable) headers: Option<String>,
    pub(in crate::durable) written_at: SystemTime,
}

impl From<(i64, Content)> for MemoryRecord {
    fn from((id, content): (i64, Content)) -> Self {
        let Content { key, payload, headers, written_at } = content;
        Self { id, key, payload, headers, written_at }
    }
}
