//! The parameters about encryption, authentication and who the server is, as typed setters and
//! getters.

use super::Config;
use super::form::iterations;
use super::keys::Key;
use super::values::{SslCertMode, SslMode, SslNegotiation, TlsVersion};
use crate::proto::auth::{ChannelBinding, RequireAuth};
use crate::proto::wire::ProtocolVersion;

/// The value of `sslrootcert` that means the authorities that the system trusts.
pub(crate) const SYSTEM_ROOTS: &str = "system";

/// Setters of encryption. A value that cannot be kept is reported by [`check`](Config::check).
impl Config {
    /// Sets whether the connection is encrypted, and what is checked.
    #[must_use]
    pub fn ssl_mode(self, mode: SslMode) -> Self {
        self.with(Key::Sslmode, mode.as_str())
    }

    /// Sets how TLS begins.
    #[must_use]
    pub fn ssl_negotiation(self, negotiation: SslNegotiation) -> Self {
        self.with(Key::Sslnegotiation, negotiation.as_str())
    }

    /// Sets the file of the authorities to trust, or `system` for those that the system trusts.
    ///
    /// The file is PEM and holds any number of certificates:
    ///
    /// - The certificate of an authority (version 3, `basicConstraints` with CA:TRUE, and keyCertSign where
    ///   `keyUsage` is given) vouches for every certificate that its key has signed. What `openssl req -x509` makes
    ///   is one, also when it is meant for a single server.
    /// - Any other certificate is known when a server shows exactly it, and vouches for no other. So is that of an
    ///   authority, when a server shows it as its own. With `verify-full` its names count as usual.
    ///
    /// A chain is checked as in libpq with OpenSSL, up to the root: signatures, dates, `pathlen`, name constraints,
    /// `keyUsage`, `extendedKeyUsage`, critical extensions, keys and hashes that are too weak, and the lists of
    /// [`ssl_crl`](Self::ssl_crl). An intermediate whose root is in the file too is checked against it.
    ///
    /// Accepted here and not by libpq: an intermediate, or a certificate that somebody has issued, without its root.
    /// Accepted by libpq and not here: an authority of version 1, or one without `basicConstraints`; and a common
    /// name in place of a host name. The type of a certificate in Netscape's extension is not looked at.
    #[must_use]
    pub fn ssl_root_cert(self, path: impl AsRef<str>) -> Self {
        self.with(Key::Sslrootcert, path)
    }

    /// Sets the file of the client's certificate and the ones above it.
    #[must_use]
    pub fn ssl_cert(self, path: impl AsRef<str>) -> Self {
        self.with(Key::Sslcert, path)
    }

    /// Sets the file of the client's key, which is not encrypted.
    #[must_use]
    pub fn ssl_key(self, path: impl AsRef<str>) -> Self {
        self.with(Key::Sslkey, path)
    }

    /// Sets whether the client's certificate is sent.
    #[must_use]
    pub fn ssl_cert_mode(self, mode: SslCertMode) -> Self {
        self.with(Key::Sslcertmode, mode.as_str())
    }

    /// Sets the file of the certificates that are revoked.
    ///
    /// There must be a list of every authority of the chain, none of them old; of several lists of one authority the
    /// newest counts. That holds for a certificate that is itself in the file of
    /// [`ssl_root_cert`](Self::ssl_root_cert) too: one that signs itself needs a list that it has signed.
    #[must_use]
    pub fn ssl_crl(self, path: impl AsRef<str>) -> Self {
        self.with(Key::Sslcrl, path)
    }

    /// Sets the directory of files of certificates that are revoked.
    #[must_use]
    pub fn ssl_crl_dir(self, path: impl AsRef<str>) -> Self {
        self.with(Key::Sslcrldir, path)
    }

    /// Sets whether the server's name is sent in clear, so that one address can be several servers.
    #[must_use]
    pub fn ssl_sni(self, on: bool) -> Self {
        self.with(Key::Sslsni, if on { "1" } else { "0" })
    }

    /// Sets the lowest version of TLS to speak.
    #[must_use]
    pub fn ssl_min_protocol_version(self, version: TlsVersion) -> Self {
        self.with(Key::SslMinProtocolVersion, version.as_str())
    }

    /// Sets the highest version of TLS to speak.
    #[must_use]
    pub fn ssl_max_protocol_version(self, version: TlsVersion) -> Self {
        self.with(Key::SslMaxProtocolVersion, version.as_str())
    }
}

/// Setters of authentication and protocol.
impl Config {
    /// Sets whether authentication must be bound to the TLS connection.
    #[must_use]
    pub fn channel_binding(self, binding: ChannelBinding) -> Self {
        self.with(Key::ChannelBinding, binding.as_str())
    }

    /// Sets by which methods the server may let us in, such as `scram-sha-256` or `!password,!md5`:
    /// [`RequireAuth`] has the grammar.
    #[must_use]
    pub fn require_auth(self, methods: impl AsRef<str>) -> Self {
        self.with(Key::RequireAuth, methods)
    }

    /// Sets the fewest iterations of SCRAM that the server may ask for, 1 to 2,147,483,647; more count as that, and 0 is
    /// refused. By default 4,096, as PostgreSQL uses. With fewer the password is guessed faster from what a fake server
    /// is sent; it is lowered for a server whose passwords were made so. libpq has no such parameter and accepts 1.
    #[must_use]
    pub fn scram_iterations_min(self, iterations: u32) -> Self {
        self.with(Key::ScramIterationsMin, iterations_text(iterations))
    }

    /// Sets the most iterations of SCRAM that the server may ask for, 1 to 2,147,483,647; more count as that, and 0 is
    /// refused. By default 2,000,000. They are computed in steps, between which other tasks run, and end with the time
    /// of the attempt (`connect_timeout`) at the latest. libpq has no such parameter and computes what is asked for.
    #[must_use]
    pub fn scram_iterations_max(self, iterations: u32) -> Self {
        self.with(Key::ScramIterationsMax, iterations_text(iterations))
    }

    /// Sets the account of the operating system that the server must run as, on Unix sockets.
    #[must_use]
    pub fn require_peer(self, account: impl AsRef<str>) -> Self {
        self.with(Key::Requirepeer, account)
    }

    /// Sets the lowest version of the protocol to speak: 3.0 or 3.2.
    #[must_use]
    pub fn min_protocol_version(self, version: ProtocolVersion) -> Self {
        self.with(Key::MinProtocolVersion, version.to_string())
    }

    /// Sets the highest version of the protocol to speak: 3.0 or 3.2.
    #[must_use]
    pub fn max_protocol_version(self, version: ProtocolVersion) -> Self {
        self.with(Key::MaxProtocolVersion, version.to_string())
    }
}

/// Getters of encryption.
impl Config {
    /// Whether the connection is encrypted, and what is checked. `None` means not given.
    ///
    /// With `sslrootcert=system` it is [`SslMode::VerifyFull`] where nothing else is given: any
    /// authority of the system's list could vouch for somebody else's name.
    #[must_use]
    pub fn get_ssl_mode(&self) -> Option<SslMode> {
        match self.text(Key::Sslmode) {
            Some(text) => text.parse().ok(),
            None if self.get_ssl_root_cert() == Some(SYSTEM_ROOTS) => Some(SslMode::VerifyFull),
            None => None,
        }
    }

    /// How TLS begins.
    #[must_use]
    pub fn get_ssl_negotiation(&self) -> SslNegotiation {
        self.text(Key::Sslnegotiation).and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// `system`, or the file of the authorities to trust.
    #[must_use]
    pub fn get_ssl_root_cert(&self) -> Option<&str> {
        self.text(Key::Sslrootcert)
    }

    /// The file of the client's certificate.
    #[must_use]
    pub fn get_ssl_cert(&self) -> Option<&str> {
        self.text(Key::Sslcert)
    }

    /// The file of the client's key.
    #[must_use]
    pub fn get_ssl_key(&self) -> Option<&str> {
        self.text(Key::Sslkey)
    }

    /// Whether the client's certificate is sent.
    #[must_use]
    pub fn get_ssl_cert_mode(&self) -> SslCertMode {
        self.text(Key::Sslcertmode).and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// The file of the certificates that are revoked.
    #[must_use]
    pub fn get_ssl_crl(&self) -> Option<&str> {
        self.text(Key::Sslcrl)
    }

    /// The directory of files of certificates that are revoked.
    #[must_use]
    pub fn get_ssl_crl_dir(&self) -> Option<&str> {
        self.text(Key::Sslcrldir)
    }

    /// Whether the server's name is sent in clear.
    #[must_use]
    pub fn get_ssl_sni(&self) -> bool {
        self.text(Key::Sslsni) != Some("0")
    }

    /// The lowest version of TLS to speak. An older one in the text counts as 1.2, the oldest one
    /// that is spoken.
    #[must_use]
    pub fn get_ssl_min_protocol_version(&self) -> Option<TlsVersion> {
        self.text(Key::SslMinProtocolVersion).and_then(TlsVersion::lowest)
    }

    /// The highest version of TLS to speak.
    #[must_use]
    pub fn get_ssl_max_protocol_version(&self) -> Option<TlsVersion> {
        self.text(Key::SslMaxProtocolVersion).and_then(TlsVersion::named)
    }
}

/// Getters of authentication and protocol.
impl Config {
    /// Whether authentication must be bound to the TLS connection.
    #[must_use]
    pub fn get_channel_binding(&self) -> ChannelBinding {
        self.text(Key::ChannelBinding).and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// By which methods the server may let us in. `None` means any.
    #[must_use]
    pub fn get_require_auth(&self) -> Option<RequireAuth> {
        self.text(Key::RequireAuth).and_then(|text| text.parse().ok())
    }

    /// The fewest iterations of SCRAM that the server may ask for. `None` means not given.
    #[must_use]
    pub fn get_scram_iterations_min(&self) -> Option<u32> {
        self.text(Key::ScramIterationsMin).and_then(iterations)
    }

    /// The most iterations of SCRAM that the server may ask for. `None` means not given.
    #[must_use]
    pub fn get_scram_iterations_max(&self) -> Option<u32> {
        self.text(Key::ScramIterationsMax).and_then(iterations)
    }

    /// The account of the operating system that the server must run as, on Unix sockets.
    #[must_use]
    pub fn get_require_peer(&self) -> Option<&str> {
        self.text(Key::Requirepeer)
    }

    /// The lowest version of the protocol to speak. `None` means not given.
    #[must_use]
    pub fn get_min_protocol_version(&self) -> Option<ProtocolVersion> {
        self.text(Key::MinProtocolVersion).and_then(protocol_version)
    }

    /// The highest version of the protocol to speak. `None` means not given.
    #[must_use]
    pub fn get_max_protocol_version(&self) -> Option<ProtocolVersion> {
        self.text(Key::MaxProtocolVersion).and_then(protocol_version)
    }
}

/// What `iterations` reads.
fn iterations_text(iterations: u32) -> String {
    iterations.min(i32::MAX.unsigned_abs()).to_string()
}

/// Each of `PROTOCOL_VERSIONS`.
fn protocol_version(text: &str) -> Option<ProtocolVersion> {
    match text {
        "3.0" => Some(ProtocolVersion::V3_0),
        "3.2" | "latest" => Some(ProtocolVersion::V3_2),
        _ => None,
    }
}
