//! What a client sees of a backend that a proxy stands before.

/// What a proxy before the backend changes for its clients. Notifications come through all of these but
/// [`OneSession`](Self::OneSession).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Proxy {
    /// There is none.
    #[default]
    None,
    /// BackendKeyData names a process that the proxy has made up.
    InventedKey,
    /// There is no BackendKeyData.
    NoKey,
    /// As [`InventedKey`](Self::InventedKey). And each statement runs on another connection to the server, of which
    /// none listens for a client: `pg_backend_pid()` is another one each time, and `pg_listening_channels()` names
    /// nothing. The proxy itself listens to the channels of all its clients.
    SharedListen,
    /// All clients share one session of the server: `pg_backend_pid()` and BackendKeyData name the same process for each,
    /// `inet_server_port()` is NULL, and a notification reaches only the client that sends it. As the socket server of
    /// PGlite with several connections.
    OneSession,
}

impl Proxy {
    /// The process id that BackendKeyData names, for a client of this server process.
    pub(super) fn key_process_id(self, process_id: i32) -> Option<i32> {
        match self {
            Self::None | Self::OneSession => Some(process_id),
            Self::InventedKey | Self::SharedListen => Some(process_id ^ 0x4000_0000),
            Self::NoKey => None,
        }
    }
}
