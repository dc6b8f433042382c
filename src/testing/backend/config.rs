//! The configuration of a testing backend.

use std::collections::BTreeMap;

use super::Proxy;
use crate::proto::auth::Password;
use crate::proto::auth::scram::SCRAM_NONCE_BYTES;
use crate::proto::wire::ProtocolVersion;

/// The default limit of output that waits for a client that does not read, in bytes: 64 MiB.
///
/// A burst of 10⁶ notifications of 51 bytes fits. PostgreSQL itself would block in `send` and keep up to 8 GiB in
/// its notification queue.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The default number of PBKDF2 iterations of a password: PostgreSQL's `scram_iterations`.
pub const SCRAM_ITERATIONS: u32 = 4_096;

/// The authentication method of the backend.
///
/// ```
/// use pgbell::testing::{Auth, BackendConfig};
///
/// let config = BackendConfig::new().auth(Auth::ScramSha256).user("bob", "a password of a test");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Auth {
    /// No authentication.
    #[default]
    Trust,
    /// The password in clear text.
    Password,
    /// An MD5 response.
    Md5,
    /// SCRAM-SHA-256, without channel binding.
    ScramSha256,
}

/// Configuration of a [`Backend`](super::Backend). Setters take and return self. `Debug` shows no password.
///
/// ```
/// use pgbell::testing::{Auth, Backend, BackendConfig};
///
/// let config = BackendConfig::new()
///     .auth(Auth::ScramSha256)
///     .user("bob", "a password of a test")
///     .server_version("16.4");
/// let backend = Backend::new(config);
/// assert_eq!(backend.sessions().count(), 0);
/// ```
#[derive(Debug, Clone)]
pub struct BackendConfig {
    pub(super) auth: Auth,
    pub(super) users: BTreeMap<String, Password>,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) protocol_max: ProtocolVersion,
    pub(super) first_process_id: i32,
    pub(super) seed: u64,
    pub(super) md5_salt: Option<[u8; 4]>,
    pub(super) scram_salt: Vec<u8>,
    pub(super) scram_nonce: Option<[u8; SCRAM_NONCE_BYTES]>,
    pub(super) scram_iterations: u32,
    pub(super) output_bytes_max: usize,
    pub(super) proxy: Proxy,
    pub(super) sessions_max: usize,
}

/// The parameters that PostgreSQL 18 reports after a login.
const PARAMETERS: &[(&str, &str)] = &[
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("application_name", ""),
    ("client_encoding", "UTF8"),
    ("default_transaction_read_only", "off"),
    ("in_hot_standby", "off"),
    ("integer_datetimes", "on"),
    ("is_superuser", "off"),
    ("scram_iterations", "4096"),
    ("search_path", "\"$user\", public"),
    ("server_encoding", "UTF8"),
    ("server_version", "18.0 (pgbell testing backend)"),
    ("session_authorization", ""),
    ("standard_conforming_strings", "on"),
];

impl Default for BackendConfig {
    fn default() -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            auth: Auth::Trust,
            users: BTreeMap::new(),
            parameters: PARAMETERS.iter().map(owned).collect(),
            protocol_max: ProtocolVersion::V3_2,
            first_process_id: 1_000,
            seed: 0,
            md5_salt: None,
            scram_salt: b"pgbell salt 0001".to_vec(),
            scram_nonce: None,
            scram_iterations: SCRAM_ITERATIONS,
            output_bytes_max: OUTPUT_BYTES_MAX,
            proxy: Proxy::None,
            sessions_max: usize::MAX,
        }
    }
}

impl BackendConfig {
    /// Returns a configuration that lets every client log in, and reports PostgreSQL 18.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the authentication method. Default: [`Auth::Trust`].
    #[must_use]
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Adds a role. Without any role, [`Auth::Trust`] accepts every name, and the other methods refuse every
    /// client.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, password: impl Into<Vec<u8>>) -> Self {
        self.users.insert(name.into(), Password::new(password));
        self
    }

    /// Returns a role that can log in.
    #[cfg(feature = "tokio")]
    pub(in crate::testing) fn any_user(&self) -> &str {
        self.users.keys().next().map_or("postgres", String::as_str)
    }

    /// Sets the reported `server_version`.
    #[must_use]
    pub fn server_version(self, text: impl Into<String>) -> Self {
        self.parameter("server_version", text)
    }

    /// Sets a parameter that is reported after the login.
    ///
    /// With `in_hot_standby` set to `on` the backend refuses LISTEN and NOTIFY as a standby does, and says that it is in recovery.
    /// A `client_encoding` is only reported: texts are always UTF-8.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// Removes a parameter of the default set: it is not reported.
    #[must_use]
    pub fn without_parameter(mut self, name: &str) -> Self {
        self.parameters.remove(name);
        self
    }

    /// Sets the newest supported protocol version. Default: [`ProtocolVersion::V3_2`].
    #[must_use]
    pub fn protocol_max(mut self, version: ProtocolVersion) -> Self {
        self.protocol_max = version;
        self
    }

    /// Sets the process id of the first session; later sessions count up. Default: 1,000.
    #[must_use]
    pub fn first_process_id(mut self, process_id: i32) -> Self {
        self.first_process_id = process_id;
        self
    }

    /// Sets the seed of salts, nonces and secret keys. The same seed gives the same values: they are
    /// predictable. Default: 0.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the salt of every MD5 request, instead of one from the seed.
    #[must_use]
    pub fn md5_salt(mut self, salt: [u8; 4]) -> Self {
        self.md5_salt = Some(salt);
        self
    }

    /// Sets the salt of every SCRAM password: 1 to 1,024 bytes.
    #[must_use]
    pub fn scram_salt(mut self, salt: impl Into<Vec<u8>>) -> Self {
        self.scram_salt = salt.into();
        self
    }

    /// Sets the server's nonce of every SCRAM exchange, instead of one from the seed.
    #[must_use]
    pub fn scram_nonce(mut self, random: [u8; SCRAM_NONCE_BYTES]) -> Self {
        self.scram_nonce = Some(random);
        self
    }

    /// Sets the PBKDF2 iterations of every SCRAM password, 1 to 2,000,000. Default: [`SCRAM_ITERATIONS`]. The keys
    /// are computed once per role, when the backend is made. A client accepts fewer than 4,096 only with
    /// [`Config::scram_iterations_min`](crate::Config::scram_iterations_min).
    #[must_use]
    pub fn scram_iterations(mut self, iterations: u32) -> Self {
        self.scram_iterations = iterations;
        self
    }

    /// Sets how many bytes may wait for a client that does not read. Beyond them the session ends with
    /// FATAL, sent after the waiting bytes; no message is left out silently. Default: [`OUTPUT_BYTES_MAX`].
    #[must_use]
    pub fn output_bytes_max(mut self, bytes: usize) -> Self {
        self.output_bytes_max = bytes;
        self
    }

    /// Sets the proxy in front of the backend. Default: [`Proxy::None`].
    #[must_use]
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = proxy;
        self
    }

    /// Sets how many sessions there may be at the same time: a further client is refused with FATAL 53300. By default there
    /// is no limit.
    #[must_use]
    pub fn sessions_max(mut self, sessions: usize) -> Self {
        self.sessions_max = sessions;
        self
    }
}
