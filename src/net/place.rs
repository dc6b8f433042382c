//! [`SessionPlace`]: where a session is.

use super::Established;
use super::dial::Address;

/// The address of a server, and one of its databases. Process ids are those of this server, and channels those of this database.
///
/// It is that of an open session: the name of a host may be that of another server at the next attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionPlace {
    address: Address,
    database: String,
}

impl Established {
    /// Returns where the session is. `None` if its database is not known.
    pub(crate) fn place(&self) -> Option<SessionPlace> {
        let database = self.config.get_dbname().or(self.config.get_user())?.to_owned();
        Some(SessionPlace { address: self.location.address().clone(), database })
    }
}

#[cfg(test)]
impl SessionPlace {
    pub(crate) fn tcp(address: std::net::SocketAddr, database: &str) -> Self {
        Self { address: Address::Tcp(address), database: database.to_owned() }
    }
}
