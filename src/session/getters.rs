//! What a session knows.

use std::fmt;

use super::{CancelKey, Phase, Session};
use crate::Error;
use crate::auth::AuthMethod;
use crate::wire::{DbError, ProtocolVersion, TransactionStatus};

impl Session {
    /// Whether commands are taken.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready)
    }

    /// Why the session is over, if it has failed.
    #[must_use]
    pub fn failure(&self) -> Option<&Error> {
        match &self.phase {
            Phase::Failed(error) => Some(error),
            Phase::Startup { .. } | Phase::Ready | Phase::Terminated(_) => None,
        }
    }

    /// How many commands have no complete answer yet.
    #[must_use]
    pub fn commands_in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Whether the server has reported that a LISTEN is completed, also in an answer that then ended in an error. It stays so.
    /// A LISTEN in a function or a DO block is not reported.
    #[must_use]
    pub fn has_listened(&self) -> bool {
        self.has_listened
    }

    /// Process id of the server's end, from BackendKeyData. Behind a pooler it may be another one's.
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.process_id
    }

    /// What a CancelRequest needs, while the session lives. Not every server and pooler sends it.
    #[must_use]
    pub fn cancel_key(&self) -> Option<CancelKey> {
        self.cancel_key.clone()
    }

    /// How the server let us in.
    #[must_use]
    pub fn auth_method(&self) -> Option<AuthMethod> {
        self.method
    }

    /// Whether the server has asked for authentication, or let us in without: its rule for this connection was found.
    #[must_use]
    pub fn was_asked(&self) -> bool {
        self.asked
    }

    /// The version of the protocol that is spoken.
    #[must_use]
    pub fn protocol_version(&self) -> ProtocolVersion {
        self.version
    }

    /// Whether a transaction is open, as of the last ReadyForQuery.
    #[must_use]
    pub fn transaction_status(&self) -> TransactionStatus {
        self.status
    }

    /// Value of a parameter that the server reported, `server_version` for example.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name)
    }

    /// The channels that the server has confirmed.
    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().map(String::as_str)
    }

    /// How many notices the server sent, and the last of them.
    #[must_use]
    pub fn notices(&self) -> (u64, Option<&DbError>) {
        (self.notices, self.last_notice.as_ref())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("phase", &self.phase)
            .field("process_id", &self.process_id)
            .field("commands_in_flight", &self.pending.len())
            .field("channels", &self.channels.len())
            .finish_non_exhaustive()
    }
}
