//! The effects of a proxy between client and backend.

/// The changes that a proxy in front of the backend makes for its clients. With each but
/// [`OneSession`](Self::OneSession) notifications arrive as usual.
///
/// ```
/// use pgbell::testing::{BackendConfig, Proxy};
///
/// // As a pooler that pgbell must recognize.
/// let config = BackendConfig::new().proxy(Proxy::InventedKey);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Proxy {
    /// No proxy.
    #[default]
    None,
    /// The process id in BackendKeyData is one that the proxy has invented.
    InventedKey,
    /// There is no BackendKeyData.
    NoKey,
    /// Like [`InventedKey`](Self::InventedKey), and each statement runs on another server connection, none of which
    /// listens for a client: `pg_backend_pid()` differs each time, and `pg_listening_channels()` returns
    /// no rows. The proxy itself listens to the channels of all its clients.
    SharedListen,
    /// All clients share one session of the server: `pg_backend_pid()` and BackendKeyData contain the same process id for each,
    /// `inet_server_port()` is NULL, and a notification reaches only the client that sends it. The socket server of
    /// PGlite does this with several connections.
    OneSession,
}

impl Proxy {
    /// Returns the process id in BackendKeyData, for a client of this server process.
    pub(super) fn key_process_id(self, process_id: i32) -> Option<i32> {
        match self {
            Self::None | Self::OneSession => Some(process_id),
            Self::InventedKey | Self::SharedListen => Some(process_id ^ 0x4000_0000),
            Self::NoKey => None,
        }
    }
}
