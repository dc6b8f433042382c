//! The TLS settings of a server.

use std::fmt;

use crate::certificates::{Authority, Certificate, RevocationList};
use crate::error::Error;
use crate::setting::setting_line;

/// The names of files in the data directory.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITIES: &str = "tls-ca.crt";
const REVOKED: &str = "tls.crl";

/// Versions of TLS, with the names of `ssl_min_protocol_version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.0.
    V1_0,
    /// TLS 1.1.
    V1_1,
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

impl TlsVersion {
    fn name(self) -> &'static str {
        match self {
            Self::V1_0 => "TLSv1",
            Self::V1_1 => "TLSv1.1",
            Self::V1_2 => "TLSv1.2",
            Self::V1_3 => "TLSv1.3",
        }
    }
}

/// A server's certificate, the authorities that it trusts, and the versions of TLS that it supports.
///
/// A [`Certificate`] alone can be used too: `builder.tls(&certificate)`.
#[derive(Clone)]
pub struct Tls {
    chain: String,
    key: String,
    authorities: String,
    revoked: String,
    min: TlsVersion,
    max: Option<TlsVersion>,
}

impl Tls {
    /// Uses this certificate, its intermediates, and its key. TLS 1.2 and later.
    #[must_use]
    pub fn new(certificate: &Certificate) -> Self {
        Self {
            chain: certificate.chain_pem().to_owned(),
            key: certificate.key_pem().to_owned(),
            authorities: String::new(),
            revoked: String::new(),
            min: TlsVersion::V1_2,
            max: None,
        }
    }

    /// Asks clients for a certificate, and trusts those of this root. Further calls add
    /// roots. `pg_hba.conf` says whether a client must have a certificate.
    #[must_use]
    pub fn client_authority(mut self, authority: &Authority) -> Self {
        self.authorities.push_str(authority.certificate().pem());
        self
    }

    /// Refuses the certificates of clients that are on the list. There must be a list of each authority in a
    /// client's chain.
    #[must_use]
    pub fn client_revocation_list(mut self, list: &RevocationList) -> Self {
        self.revoked.push_str(list.pem());
        self
    }

    /// Sets the lowest version.
    #[must_use]
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.min = version;
        self
    }

    /// Sets the highest version.
    #[must_use]
    pub fn max_version(mut self, version: TlsVersion) -> Self {
        self.max = Some(version);
        self
    }

    pub(crate) fn asks_clients(&self) -> bool {
        !self.authorities.is_empty()
    }

    pub(crate) fn chain(&self) -> &str {
        &self.chain
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn authorities(&self) -> &str {
        &self.authorities
    }

    /// Returns the files for the data directory, which only the server's user can read.
    pub(crate) fn files(&self) -> [(&'static str, &str); 4] {
        [
            (CERTIFICATE, &self.chain),
            (KEY, &self.key),
            (AUTHORITIES, &self.authorities),
            (REVOKED, &self.revoked),
        ]
    }

    /// Returns the lines of `postgresql.conf`. All are set, so that they replace those of another `Tls`.
    pub(crate) fn settings(&self) -> Result<String, Error> {
        let named = |name, contents: &str| if contents.is_empty() { "" } else { name };
        let settings = [
            ("ssl", "on"),
            ("ssl_cert_file", CERTIFICATE),
            ("ssl_key_file", KEY),
            ("ssl_ca_file", named(AUTHORITIES, &self.authorities)),
            ("ssl_crl_file", named(REVOKED, &self.revoked)),
            ("ssl_min_protocol_version", self.min.name()),
            ("ssl_max_protocol_version", self.max.map_or("", TlsVersion::name)),
        ];
        settings.iter().map(|(name, value)| setting_line(name, value)).collect()
    }
}

impl From<&Certificate> for Tls {
    fn from(certificate: &Certificate) -> Self {
        Self::new(certificate)
    }
}

impl From<&Self> for Tls {
    fn from(tls: &Self) -> Self {
        tls.clone()
    }
}

impl fmt::Debug for Tls {
    // Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("asks_clients", &self.asks_clients())
            .field("min", &self.min)
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}
