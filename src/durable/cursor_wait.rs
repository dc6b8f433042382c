//! [`CursorWait`]: why a reader waits for a cursor.

use std::fmt;

use super::telemetry;

/// Why [`CursorBuilder::open`](crate::durable::CursorBuilder::open) waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CursorWait {
    /// Another reader has the cursor, and its lease has not passed.
    OtherReader,
    /// An acknowledgement is in a transaction that is still open. Whether its records are received again depends on its end.
    OpenTransaction,
}

impl fmt::Display for CursorWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherReader => "another reader has it",
            Self::OpenTransaction => "an acknowledgement is in a transaction that is still open",
        })
    }
}

/// Reports why a reader waits, each time the reason changes.
#[derive(Default)]
pub(super) struct Waits {
    call: Option<Box<dyn FnMut(CursorWait) + Send>>,
    last: Option<CursorWait>,
}

impl Waits {
    pub(super) fn set(&mut self, call: impl FnMut(CursorWait) + Send + 'static) {
        self.call = Some(Box::new(call));
    }

    pub(super) fn report(&mut self, cursor: &str, wait: CursorWait) {
        if self.last.replace(wait) == Some(wait) {
            return;
        }
        telemetry::waiting(cursor, wait);
        if let Some(call) = &mut self.call {
            call(wait);
        }
    }
}

impl fmt::Debug for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waits").field("last", &self.last).finish_non_exhaustive()
    }
}
