//! How it is proven that notifications come through what stands before the server.

use super::Config;

/// How a session that listens is proven to deliver notifications: [`Config::delivery_proof`].
///
/// Poolers and proxies may accept LISTEN and deliver nothing, and the session alone cannot see that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum DeliveryProof {
    /// A session that a pooler or a proxy may stand before is proven by a second session, when it is set up.
    ///
    /// Such a session has no process id from BackendKeyData, or another one than `pg_backend_pid()` says, or is reached over
    /// TCP while `inet_server_port()` is NULL. It listens to
    /// a private channel, and a second session, which is closed at once, sends a notification on that channel. The
    /// second session may take 3 s, and the notification 1.5 s more. If there is no second session, or the notification
    /// does not arrive, the session is not used, and the error of kind [`Pooler`](crate::ErrorKind::Pooler) says which
    /// of the two it was.
    ///
    /// At each heartbeat of a [`Listener`](crate::Listener) the server is asked what the session listens to. Behind a
    /// proxy that listens in place of its clients the server cannot say that, and a session that a pooler did not reset
    /// may listen to other channels too. Both are noticed when the session is set up, and such a session has the
    /// heartbeat of [`Heartbeat`](Self::Heartbeat).
    #[default]
    Auto,
    /// At each heartbeat of a [`Listener`](crate::Listener) the session sends itself a notification on a private channel,
    /// which must come back within the deadline of the heartbeat. The server is not asked what the session listens to.
    ///
    /// When a session is set up that a pooler or a proxy may stand before, a second session proves it as in
    /// [`Auto`](Self::Auto). Where no second
    /// session can be had, because the pool has no free connection or the server takes only one, it is enough that the
    /// session hears itself.
    ///
    /// A session that hears itself is no proof against a pool in transaction mode, which may lend the same server
    /// connection to both commands: choose this where the pool is known to keep sessions. It does not prove each of the
    /// channels either. A [`Connection`](crate::Connection) has no heartbeat: where a pooler or a proxy may stand before
    /// it, it is proven at its first `listen`.
    Heartbeat,
    /// Nothing is proven. A heartbeat only asks whether the server answers (`SELECT 'pgbell'`).
    ///
    /// A pooler that swallows notifications, and a subscription that is lost while the session goes on, are not noticed:
    /// notifications are lost without a [`Gap`](crate::Gap) then.
    Skip,
}

impl Config {
    /// How a session that listens is proven to deliver notifications. By default [`DeliveryProof::Auto`]. It is no
    /// parameter of libpq's, and no connection string can set it.
    #[must_use]
    pub fn delivery_proof(mut self, proof: DeliveryProof) -> Self {
        self.delivery_proof = proof;
        self
    }

    /// How a session that listens is proven to deliver notifications.
    #[must_use]
    pub fn get_delivery_proof(&self) -> DeliveryProof {
        self.delivery_proof
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_kept_beside_the_parameters() {
        let config: Config = "host=a".parse().unwrap();
        assert_eq!(config.get_delivery_proof(), DeliveryProof::Auto);
        let config = config.delivery_proof(DeliveryProof::Skip).user("bob");
        assert_eq!(config.get_delivery_proof(), DeliveryProof::Skip);
        assert_eq!(config.to_string(), "host=a user=bob");
        assert!(format!("{config:?}").contains("delivery_proof: Skip"), "{config:?}");
        // A text cannot choose it.
        assert!("host=a delivery_proof=skip".parse::<Config>().is_err());
    }
}
