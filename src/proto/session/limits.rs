//! Limits of the answer to a command.

use super::Session;
use super::command::{CommandId, Pending};

impl Session {
    /// Requires that no transaction is open after the answer to a command. If one is, another
    /// client of the same backend has begun it, and the session fails. It has no effect after the
    /// command is answered.
    pub fn require_commit(&mut self, id: CommandId) {
        if let Some(pending) = self.find(id) {
            pending.require_commit();
        }
    }

    /// Limits an answer to `bytes`. A larger one is refused with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
    pub fn limit_answer(&mut self, id: CommandId, bytes: usize) {
        if let Some(pending) = self.find(id) {
            pending.limit(bytes);
        }
    }

    /// Limits an answer to `rows` rows. With more rows the session fails. This is for statements whose answer is known,
    /// so that a server cannot keep the session busy with rows until the deadline of the command.
    pub fn limit_rows(&mut self, id: CommandId, rows: usize) {
        if let Some(pending) = self.find(id) {
            pending.limit_rows(rows);
        }
    }

    fn find(&mut self, id: CommandId) -> Option<&mut Pending> {
        self.pending.iter_mut().rev().find(|pending| pending.id == id)
    }
}
