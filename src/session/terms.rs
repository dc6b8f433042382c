//! What is asked of the answer to a command.

use super::Session;
use super::command::{CommandId, Pending};

impl Session {
    /// A command that is to be committed when it is answered: it must leave no transaction open. If it does, another
    /// client of the same server process has begun one, and the session is over. Without effect once the
    /// command is answered.
    pub fn require_commit(&mut self, id: CommandId) {
        if let Some(pending) = self.find(id) {
            pending.require_commit();
        }
    }

    /// An answer of more than `bytes` is refused with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
    pub fn limit_answer(&mut self, id: CommandId, bytes: usize) {
        if let Some(pending) = self.find(id) {
            pending.limit(bytes);
        }
    }

    /// An answer of more than `rows` rows breaks the protocol: the session is over. For statements whose answer is known,
    /// so that a server cannot keep the session busy with rows until the time of the command is over.
    pub fn limit_rows(&mut self, id: CommandId, rows: usize) {
        if let Some(pending) = self.find(id) {
            pending.limit_rows(rows);
        }
    }

    fn find(&mut self, id: CommandId) -> Option<&mut Pending> {
        self.pending.iter_mut().rev().find(|pending| pending.id == id)
    }
}
