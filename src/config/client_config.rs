//! The user's own configuration of rustls, a value that is only passed on.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;

use super::Config;

/// The name of the setter.
pub(super) const SETTING: &str = "rustls_0_23";

#[derive(Clone)]
pub(super) struct OwnClientConfig(Arc<ClientConfig>);

/// Shows only that there is one: it may contain a key.
impl fmt::Debug for OwnClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("set")
    }
}

impl Config {
    /// Sets the configuration of rustls, for settings that no parameter has: another cryptography provider, keys in
    /// hardware, your own verifier.
    ///
    /// It decides how a server is verified and which certificate is sent to it. `sslmode` still decides whether TLS is
    /// used, and `sslnegotiation`, `sslsni=0` and `sslcertmode` still apply; `sslrootcert`, `sslcert`, `sslkey`,
    /// `sslcrl`, `sslcrldir`, `ssl_min_protocol_version` and `ssl_max_protocol_version` are ignored. The
    /// protocol `postgresql` is offered whatever its `alpn_protocols` are, and no session is resumed. A server that it
    /// accepts counts as verified: with a verifier that accepts every certificate, any server can request the password in
    /// clear.
    ///
    /// ```
    /// # #[cfg(feature = "tls-ring")] {
    /// use std::sync::Arc;
    ///
    /// let roots = rustls::RootCertStore::empty();
    /// let provider = Arc::new(rustls::crypto::ring::default_provider());
    /// let client = rustls::ClientConfig::builder_with_provider(provider)
    ///     .with_safe_default_protocol_versions()
    ///     .unwrap()
    ///     .with_root_certificates(roots)
    ///     .with_no_client_auth();
    /// let config = pgbell::Config::new().rustls_0_23(Arc::new(client));
    /// # }
    /// ```
    #[must_use]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn rustls_0_23(mut self, client: Arc<ClientConfig>) -> Self {
        self.client_config = Some(OwnClientConfig(client));
        self
    }

    /// Returns the user's own configuration of rustls.
    pub(crate) fn get_client_config(&self) -> Option<&Arc<ClientConfig>> {
        self.client_config.as_ref().map(|own| &own.0)
    }
}
