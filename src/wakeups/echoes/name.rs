//! [`EchoName`]: by what an echo is found.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

/// The process id, the channel and the key of an echo.
#[derive(Debug)]
pub(super) struct EchoName {
    pub(super) process_id: i32,
    pub(super) channel: Arc<str>,
    pub(super) key: Arc<str>,
}

/// An [`EchoName`], or a borrowed one: a search must not allocate.
pub(super) trait Named {
    fn name(&self) -> (i32, &str, &str);
}

impl Named for EchoName {
    fn name(&self) -> (i32, &str, &str) {
        (self.process_id, &self.channel, &self.key)
    }
}

impl Named for (i32, &str, &str) {
    fn name(&self) -> (i32, &str, &str) {
        *self
    }
}

impl<'a> Borrow<dyn Named + 'a> for EchoName {
    fn borrow(&self) -> &(dyn Named + 'a) {
        self
    }
}

impl Ord for dyn Named + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(&other.name())
    }
}

impl PartialOrd for dyn Named + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn Named + '_ {}

impl Ord for EchoName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(&other.name())
    }
}

impl PartialOrd for EchoName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for EchoName {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for EchoName {}
