//! The checks of `pgbell doctor`, one noun in each file.

pub(super) mod certificate;
pub(super) mod commit_lock;
pub(super) mod delivery;
pub(super) mod outbox;
pub(super) mod password;
pub(super) mod pgmq;
pub(super) mod pooler;
pub(super) mod queue;
pub(super) mod readers;
pub(super) mod server;
pub(super) mod slots;
pub(super) mod slru;
pub(super) mod timeouts;
pub(super) mod transactions;
pub(super) mod triggers;
pub(super) mod version;
