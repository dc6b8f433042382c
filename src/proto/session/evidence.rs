//! How heartbeats check that a session listens to its channels.

use super::Session;

/// The way in which heartbeats check that a session listens to its channels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Evidence {
    /// The server returns the names of the channels: `pg_listening_channels()`.
    #[default]
    Channels,
    /// A self-notification on this private channel comes back. The session listens to the channel already.
    ///
    /// For proxies that listen for their clients, so that the server cannot name the channels, and for poolers where
    /// the server also names the channels of an earlier client.
    SelfNotification(String),
    /// The server answers. Whether the session listens is not checked.
    Answer,
}

impl Session {
    /// Sets the way of the check. The default is [`Evidence::Channels`].
    pub fn set_evidence(&mut self, evidence: Evidence) {
        self.evidence = evidence;
    }

    /// Returns the way of the check.
    #[must_use]
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }
}
