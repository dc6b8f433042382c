//! [`SessionProcessId`]: the process id of a session, which changes when the session is replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// The process id of the current session in the server. All clones show the same one.
#[derive(Debug, Clone)]
pub(crate) struct SessionProcessId(Arc<AtomicI64>);

/// It is not known.
const UNKNOWN: i64 = i64::MIN;

impl SessionProcessId {
    pub(crate) fn new(process_id: Option<i32>) -> Self {
        Self(Arc::new(AtomicI64::new(process_id.map_or(UNKNOWN, i64::from))))
    }

    /// Returns it. `None` if there is no session, or if the server sent none.
    pub(crate) fn get(&self) -> Option<i32> {
        i32::try_from(self.0.load(Ordering::Acquire)).ok()
    }

    pub(crate) fn set(&self, process_id: Option<i32>) {
        self.0.store(process_id.map_or(UNKNOWN, i64::from), Ordering::Release);
    }
}
