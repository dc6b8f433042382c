//! By what a session is proven to listen to its channels.

use super::Session;

/// By what a session is proven to listen to its channels, for as long as it lives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Evidence {
    /// The server names the channels: `pg_listening_channels()`.
    #[default]
    Channels,
    /// A notification that the session sends to itself on this private channel comes back. The session listens to the
    /// channel already. For where a proxy listens in place of its clients, so that the server cannot name the channels,
    /// and where the server also names channels that another client of a pooler has left.
    Echo(String),
    /// By nothing: it answers, and that is all.
    Answer,
}

impl Session {
    /// Says by what it is proven to listen. By default [`Evidence::Channels`].
    pub fn prove_by(&mut self, evidence: Evidence) {
        self.evidence = evidence;
    }

    /// By what it is proven to listen.
    #[must_use]
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }
}
