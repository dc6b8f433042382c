//! The setting of the delivery proof: how a session checks that notifications arrive through poolers and proxies.

use super::Config;

/// The check that notifications arrive at a session that listens: [`Config::delivery_proof`].
///
/// Poolers and proxies may accept LISTEN and deliver no notifications. The session alone cannot detect that.
///
/// ```
/// use pgbell::{Config, DeliveryProof};
///
/// // For a pool with one connection, in session mode.
/// let config = Config::new().host("pool").delivery_proof(DeliveryProof::Heartbeat);
/// assert_eq!(config.get_delivery_proof(), DeliveryProof::Heartbeat);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum DeliveryProof {
    /// If there may be a pooler or a proxy before the server, the session is checked with a second session at the login.
    ///
    /// That is assumed if the server sent no process id in BackendKeyData, or another one than `pg_backend_pid()` returns,
    /// or if the connection is TCP and `inet_server_port()` is NULL. The session then listens to
    /// a private channel, and a second session, which is closed at once, sends a notification on that channel. The timeout
    /// of the second session is 3 s, and that of the notification another 1.5 s. If no second session can be opened, or the
    /// notification does not arrive, the session is not used. The error of kind [`Pooler`](crate::ErrorKind::Pooler)
    /// contains which of the two was the cause.
    ///
    /// Each heartbeat of a [`Listener`](crate::Listener) asks the server for the channels of the session. The answer is not
    /// usable behind a proxy that listens in place of its clients, or if a pooler did not reset the session, which may then
    /// listen to other channels too. Both are detected at the login. Such a session uses the heartbeat of
    /// [`Heartbeat`](Self::Heartbeat).
    #[default]
    Auto,
    /// At each heartbeat of a [`Listener`](crate::Listener) the session sends a self-notification on a private channel,
    /// which must arrive within the timeout of the heartbeat. The server is not asked for the channels of the session.
    ///
    /// If there may be a pooler or a proxy before the server, a second session checks the session at the login, as in
    /// [`Auto`](Self::Auto). If no second session can be opened, because the pool has no free connection or the server
    /// accepts only one, a self-notification is enough.
    ///
    /// A self-notification does not detect a pooler in transaction mode, which may use the same server connection for both
    /// commands. Use this mode only if the pooler keeps sessions. A self-notification does not check each of the channels
    /// either. A [`Connection`](crate::Connection) has no heartbeat: if there may be a pooler or a proxy, its first `listen`
    /// makes the check.
    Heartbeat,
    /// There is no check. A heartbeat only asks for an answer of the server (`SELECT 'pgbell'`).
    ///
    /// A pooler that does not deliver notifications is not detected, and neither is a channel that the session no longer
    /// listens to. Notifications are then lost without a [`Gap`](crate::Gap).
    Skip,
}

impl Config {
    /// Sets the check that notifications arrive at a session that listens. The default is [`DeliveryProof::Auto`]. It is
    /// not a parameter of libpq, and a connection string cannot set it.
    #[must_use]
    pub fn delivery_proof(mut self, proof: DeliveryProof) -> Self {
        self.delivery_proof = proof;
        self
    }

    /// Returns the check that notifications arrive at a session that listens.
    #[must_use]
    pub fn get_delivery_proof(&self) -> DeliveryProof {
        self.delivery_proof
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delivery_proof_is_stored_separately_from_the_parameters() {
        let config: Config = "host=a".parse().unwrap();
        assert_eq!(config.get_delivery_proof(), DeliveryProof::Auto);
        let config = config.delivery_proof(DeliveryProof::Skip).user("bob");
        assert_eq!(config.get_delivery_proof(), DeliveryProof::Skip);
        assert_eq!(config.to_string(), "host=a user=bob");
        assert!(format!("{config:?}").contains("delivery_proof: Skip"), "{config:?}");
        // A connection string cannot set it.
        assert!("host=a delivery_proof=skip".parse::<Config>().is_err());
    }
}
