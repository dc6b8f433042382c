//! The getters of a session.

use std::fmt;

use super::after_terminate::AfterTerminate;
use super::{CancelKey, Session, SessionPhase};
use crate::error::Error;
use crate::proto::auth::AuthMethod;
use crate::proto::wire::{DbError, ProtocolVersion, TransactionStatus};

impl Session {
    /// Returns true if commands can be sent.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, SessionPhase::Ready)
    }

    /// Returns the error with which the session has failed.
    #[must_use]
    pub fn failure(&self) -> Option<&Error> {
        match &self.phase {
            SessionPhase::Failed(error) => Some(error),
            SessionPhase::Startup { .. } | SessionPhase::Ready | SessionPhase::Terminated(_) => {
                None
            }
        }
    }

    /// Returns the error of a malformed message that arrived after Terminate. It and everything after it was discarded.
    #[must_use]
    pub fn malformed_after_terminate(&self) -> Option<&Error> {
        match &self.phase {
            SessionPhase::Terminated(AfterTerminate::Malformed(error)) => Some(error),
            _ => None,
        }
    }

    /// Returns the number of commands without a complete answer.
    #[must_use]
    pub fn commands_in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Returns true if nothing waits for an answer of the server, and nothing is to be written: a read may be
    /// [delayed](super::ReadDelay).
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.is_ready() && self.pending.is_empty() && self.transmit.is_empty()
    }

    /// Returns true after the server has completed a LISTEN, even if the answer then ended with an error.
    /// A LISTEN in a function or a DO block is not noticed.
    #[must_use]
    pub fn has_listened(&self) -> bool {
        self.has_listened
    }

    /// Returns the process id of BackendKeyData. Behind a pooler it may be that of another backend.
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.process_id
    }

    /// Returns the key for a CancelRequest, until the session ends. Some servers and poolers do not send one.
    #[must_use]
    pub fn cancel_key(&self) -> Option<CancelKey> {
        self.cancel_key.clone()
    }

    /// Returns the method of authentication, after the login.
    #[must_use]
    pub fn auth_method(&self) -> Option<AuthMethod> {
        self.method
    }

    /// Returns true after the server has sent an Authentication message, so it has found its rule for this connection.
    #[must_use]
    pub fn was_asked(&self) -> bool {
        self.was_asked
    }

    /// Returns the version of the protocol.
    #[must_use]
    pub fn protocol_version(&self) -> ProtocolVersion {
        self.version
    }

    /// Returns the transaction status of the last ReadyForQuery.
    #[must_use]
    pub fn transaction_status(&self) -> TransactionStatus {
        self.status
    }

    /// Returns true if each channel of the session costs the server time for every notification of its database: before version 19, and
    /// if the version is not known.
    pub(crate) fn has_slow_channels(&self) -> bool {
        let major =
            |version: &str| version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
        self.parameter("server_version").and_then(major).is_none_or(|major: u32| major < 19)
    }

    /// Returns the value of a parameter that the server has reported, for example `server_version`.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name)
    }

    /// Returns the channels that the server has confirmed.
    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().map(String::as_str)
    }

    /// Returns the number of notices from the server, and the last one.
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
