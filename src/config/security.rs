//! Typed setters and getters of the parameters for encryption, authentication and the identity of the server.

use super::Config;
use super::form::iterations;
use super::keys::ParameterKey;
use super::values::{SslCertMode, SslMode, SslNegotiation, TlsVersion};
use crate::proto::auth::{ChannelBinding, RequireAuth};
use crate::proto::wire::ProtocolVersion;

/// The value of `sslrootcert` for the authorities that the system trusts.
pub(crate) const SYSTEM_ROOTS: &str = "system";

/// Setters of encryption. [`check`](Config::check) returns an error if a value is not valid.
impl Config {
    /// Sets whether the connection is encrypted, and how the server's certificate is checked.
    #[must_use]
    pub fn ssl_mode(self, mode: SslMode) -> Self {
        self.with(ParameterKey::Sslmode, mode.as_str())
    }

    /// Sets how TLS begins.
    #[must_use]
    pub fn ssl_negotiation(self, negotiation: SslNegotiation) -> Self {
        self.with(ParameterKey::Sslnegotiation, negotiation.as_str())
    }

    /// Sets the file of the authorities to trust, or `system` for those that the system trusts.
    ///
    /// The file is PEM and contains any number of certificates:
    ///
    /// - The certificate of an authority (version 3, `basicConstraints` with CA:TRUE, and keyCertSign if it has
    ///   `keyUsage`) makes every certificate trusted that its key has signed. `openssl req -x509` creates such a
    ///   certificate, even if it is meant for a single server.
    /// - Any other certificate is trusted if a server sends exactly this certificate, and makes no other certificate
    ///   trusted. The certificate of an authority is also trusted if a server sends it as its own. With `verify-full`
    ///   its names are checked as usual.
    ///
    /// A chain is checked as in libpq with OpenSSL, up to the root: signatures, dates, `pathlen`, name constraints,
    /// `keyUsage`, `extendedKeyUsage`, critical extensions, keys and hashes that are too weak, and the revocation lists of
    /// [`ssl_crl`](Self::ssl_crl). If the root of an intermediate certificate is in the file too, the intermediate is
    /// checked against it.
    ///
    /// Accepted here and not by libpq: an intermediate certificate, or a server's certificate that an authority has issued,
    /// without its root. Accepted by libpq and not here: an authority of version 1, or one without `basicConstraints`; and
    /// a common name in place of a host name. Netscape's extension for the type of a certificate is ignored.
    #[must_use]
    pub fn ssl_root_cert(self, path: impl AsRef<str>) -> Self {
        self.with(ParameterKey::Sslrootcert, path)
    }

    /// Sets the file of the client's certificate and of its chain of intermediate certificates.
    #[must_use]
    pub fn ssl_cert(self, path: impl AsRef<str>) -> Self {
        self.with(ParameterKey::Sslcert, path)
    }

    /// Sets the file of the client's private key, which must not be encrypted.
    #[must_use]
    pub fn ssl_key(self, path: impl AsRef<str>) -> Self {
        self.with(ParameterKey::Sslkey, path)
    }

    /// Sets the condition under which the client's certificate is sent.
    #[must_use]
    pub fn ssl_cert_mode(self, mode: SslCertMode) -> Self {
        self.with(ParameterKey::Sslcertmode, mode.as_str())
    }

    /// Sets the file of the certificate revocation lists.
    ///
    /// The file must contain a list of every authority of the chain, and no list may be out of date. If an authority has
    /// several lists, the newest one is used. The same is required of a certificate that is itself in the file of
    /// [`ssl_root_cert`](Self::ssl_root_cert): if it is self-signed, it needs a list that it has signed.
    #[must_use]
    pub fn ssl_crl(self, path: impl AsRef<str>) -> Self {
        self.with(ParameterKey::Sslcrl, path)
    }

    /// Sets the directory of files with certificate revocation lists.
    #[must_use]
    pub fn ssl_crl_dir(self, path: impl AsRef<str>) -> Self {
        self.with(ParameterKey::Sslcrldir, path)
    }

    /// Sets whether the server's name is sent unencrypted (SNI), so that several servers can share one address.
    #[must_use]
    pub fn ssl_sni(self, on: bool) -> Self {
        self.with(ParameterKey::Sslsni, if on { "1" } else { "0" })
    }

    /// Sets the lowest version of TLS to use.
    #[must_use]
    pub fn ssl_min_protocol_version(self, version: TlsVersion) -> Self {
        self.with(ParameterKey::SslMinProtocolVersion, version.as_str())
    }

    /// Sets the highest version of TLS to use.
    #[must_use]
    pub fn ssl_max_protocol_version(self, version: TlsVersion) -> Self {
        self.with(ParameterKey::SslMaxProtocolVersion, version.as_str())
    }
}

/// Setters of authentication and protocol.
impl Config {
    /// Sets whether authentication must be bound to the TLS connection.
    #[must_use]
    pub fn channel_binding(self, binding: ChannelBinding) -> Self {
        self.with(ParameterKey::ChannelBinding, binding.as_str())
    }

    /// Sets the methods of authentication that the server may use, such as `scram-sha-256` or `!password,!md5`.
    /// [`RequireAuth`] describes the grammar.
    #[must_use]
    pub fn require_auth(self, methods: impl AsRef<str>) -> Self {
        self.with(ParameterKey::RequireAuth, methods)
    }

    /// Sets the minimum of SCRAM iterations that the server may ask for: 1 to 2,147,483,647. A greater number counts as this
    /// maximum, 0 is an error. The default is 4,096, the number that PostgreSQL uses. With fewer iterations, a fake server
    /// can guess the password faster from the client's answer. Set it lower only for a server whose passwords were stored
    /// with fewer iterations. libpq has no such parameter and accepts 1.
    #[must_use]
    pub fn scram_iterations_min(self, iterations: u32) -> Self {
        self.with(ParameterKey::ScramIterationsMin, iterations_text(iterations))
    }

    /// Sets the maximum of SCRAM iterations that the server may ask for: 1 to 2,147,483,647. A greater number counts as this
    /// maximum, 0 is an error. The default is 2,000,000. They are computed in steps, between which other tasks run, and the
    /// computation ends at the deadline of the attempt (`connect_timeout`) at the latest. libpq has no such parameter and
    /// no limit.
    #[must_use]
    pub fn scram_iterations_max(self, iterations: u32) -> Self {
        self.with(ParameterKey::ScramIterationsMax, iterations_text(iterations))
    }

    /// Sets the account of the operating system that the server must run as, on Unix sockets.
    #[must_use]
    pub fn require_peer(self, account: impl AsRef<str>) -> Self {
        self.with(ParameterKey::Requirepeer, account)
    }

    /// Sets the lowest version of the protocol to use: 3.0 or 3.2.
    #[must_use]
    pub fn min_protocol_version(self, version: ProtocolVersion) -> Self {
        self.with(ParameterKey::MinProtocolVersion, version.to_string())
    }

    /// Sets the highest version of the protocol to use: 3.0 or 3.2.
    #[must_use]
    pub fn max_protocol_version(self, version: ProtocolVersion) -> Self {
        self.with(ParameterKey::MaxProtocolVersion, version.to_string())
    }
}

/// Getters of encryption.
impl Config {
    /// Returns whether the connection is encrypted, and how the server's certificate is checked. `None` means not given.
    ///
    /// With `sslrootcert=system` it is [`SslMode::VerifyFull`] if no mode is given: without a check of the name, every
    /// certificate of every public authority would be accepted.
    #[must_use]
    pub fn get_ssl_mode(&self) -> Option<SslMode> {
        match self.text(ParameterKey::Sslmode) {
            Some(text) => text.parse().ok(),
            None if self.get_ssl_root_cert() == Some(SYSTEM_ROOTS) => Some(SslMode::VerifyFull),
            None => None,
        }
    }

    /// Returns the way in which TLS begins.
    #[must_use]
    pub fn get_ssl_negotiation(&self) -> SslNegotiation {
        self.text(ParameterKey::Sslnegotiation)
            .and_then(|text| text.parse().ok())
            .unwrap_or_default()
    }

    /// Returns `system`, or the file of the authorities to trust.
    #[must_use]
    pub fn get_ssl_root_cert(&self) -> Option<&str> {
        self.text(ParameterKey::Sslrootcert)
    }

    /// Returns the file of the client's certificate.
    #[must_use]
    pub fn get_ssl_cert(&self) -> Option<&str> {
        self.text(ParameterKey::Sslcert)
    }

    /// Returns the file of the client's private key.
    #[must_use]
    pub fn get_ssl_key(&self) -> Option<&str> {
        self.text(ParameterKey::Sslkey)
    }

    /// Returns the condition under which the client's certificate is sent.
    #[must_use]
    pub fn get_ssl_cert_mode(&self) -> SslCertMode {
        self.text(ParameterKey::Sslcertmode).and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// Returns the file of the certificate revocation lists.
    #[must_use]
    pub fn get_ssl_crl(&self) -> Option<&str> {
        self.text(ParameterKey::Sslcrl)
    }

    /// Returns the directory of files with certificate revocation lists.
    #[must_use]
    pub fn get_ssl_crl_dir(&self) -> Option<&str> {
        self.text(ParameterKey::Sslcrldir)
    }

    /// Returns whether the server's name is sent unencrypted (SNI).
    #[must_use]
    pub fn get_ssl_sni(&self) -> bool {
        self.text(ParameterKey::Sslsni) != Some("0")
    }

    /// Returns the lowest version of TLS to use. A version below 1.2 counts as 1.2, the oldest supported one.
    #[must_use]
    pub fn get_ssl_min_protocol_version(&self) -> Option<TlsVersion> {
        self.text(ParameterKey::SslMinProtocolVersion).and_then(TlsVersion::lowest)
    }

    /// Returns the highest version of TLS to use.
    #[must_use]
    pub fn get_ssl_max_protocol_version(&self) -> Option<TlsVersion> {
        self.text(ParameterKey::SslMaxProtocolVersion).and_then(TlsVersion::named)
    }
}

/// Getters of authentication and protocol.
impl Config {
    /// Returns whether authentication must be bound to the TLS connection.
    #[must_use]
    pub fn get_channel_binding(&self) -> ChannelBinding {
        self.text(ParameterKey::ChannelBinding)
            .and_then(|text| text.parse().ok())
            .unwrap_or_default()
    }

    /// Returns the methods of authentication that the server may use. `None` means any.
    #[must_use]
    pub fn get_require_auth(&self) -> Option<RequireAuth> {
        self.text(ParameterKey::RequireAuth).and_then(|text| text.parse().ok())
    }

    /// Returns the minimum of SCRAM iterations that the server may ask for. `None` means not given.
    #[must_use]
    pub fn get_scram_iterations_min(&self) -> Option<u32> {
        self.text(ParameterKey::ScramIterationsMin).and_then(iterations)
    }

    /// Returns the maximum of SCRAM iterations that the server may ask for. `None` means not given.
    #[must_use]
    pub fn get_scram_iterations_max(&self) -> Option<u32> {
        self.text(ParameterKey::ScramIterationsMax).and_then(iterations)
    }

    /// Returns the account of the operating system that the server must run as, on Unix sockets.
    #[must_use]
    pub fn get_require_peer(&self) -> Option<&str> {
        self.text(ParameterKey::Requirepeer)
    }

    /// Returns the lowest version of the protocol to use. `None` means not given.
    #[must_use]
    pub fn get_min_protocol_version(&self) -> Option<ProtocolVersion> {
        self.text(ParameterKey::MinProtocolVersion).and_then(protocol_version)
    }

    /// Returns the highest version of the protocol to use. `None` means not given.
    #[must_use]
    pub fn get_max_protocol_version(&self) -> Option<ProtocolVersion> {
        self.text(ParameterKey::MaxProtocolVersion).and_then(protocol_version)
    }
}

/// Formats a number so that `iterations` can parse it.
fn iterations_text(iterations: u32) -> String {
    iterations.min(i32::MAX.unsigned_abs()).to_string()
}

/// Parses one of `PROTOCOL_VERSIONS`.
fn protocol_version(text: &str) -> Option<ProtocolVersion> {
    match text {
        "3.0" => Some(ProtocolVersion::V3_0),
        "3.2" | "latest" => Some(ProtocolVersion::V3_2),
        _ => None,
    }
}
