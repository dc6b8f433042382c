//! The configuration of rustls, from the parameters of a connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};

use super::client_certificate::{CertificateResolver, ClientCertificate, FixedCertificate};
use super::file;
use super::handshake_info::HandshakeInfo;
use super::roots::Trust;
use super::verifier::{Check, Verifier};
use crate::config::Config;
use crate::config::{Server, SslCertMode, SslMode, SslNegotiation, TlsVersion};
use crate::error::{Error, ErrorKind, Panic};
use crate::net::files;

/// The TLS settings of one attempt to connect, with the contents of their files. The next attempt reads the files again.
#[derive(Debug)]
pub(crate) struct Tls {
    base: Base,
    mode: SslMode,
    sni: bool,
    pub(super) negotiation: SslNegotiation,
    pub(super) certificate_mode: SslCertMode,
}

#[derive(Debug)]
enum Base {
    /// The user's own, which decides what is verified and sent.
    Custom(Arc<ClientConfig>),
    Parameters(Box<FromParameters>),
}

#[derive(Debug)]
struct FromParameters {
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static SupportedProtocolVersion>,
    trust: Option<Arc<Trust>>,
    certificate: ClientCertificate,
}

impl Tls {
    /// Reads the files that a resolved configuration names, in a thread for blocking operations.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the name of a file that is missing or malformed, [`ErrorKind::Unsupported`]
    /// for an encrypted key, [`ErrorKind::Tls`] if the program has no cryptography provider.
    pub(crate) async fn load(config: &Config) -> Result<Self, Error> {
        let config = config.clone();
        match tokio::task::spawn_blocking(move || Self::new(&config)).await {
            Ok(result) => result,
            Err(error) => Err(match error.try_into_panic() {
                // The cryptography provider of the program may panic.
                Ok(payload) => Error::panicked("reading the files of TLS", &Panic::new(payload)),
                Err(error) => {
                    Error::caused(ErrorKind::Connect, "the files of TLS were not read", error)
                }
            }),
        }
    }

    /// Does the same as [`load`](Self::load), in the current thread.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let home = files::home(|name| std::env::var_os(name));
        // On Windows, the directory is already one for these files only.
        let directory =
            home.map(|home| if cfg!(windows) { home } else { home.join(".postgresql") });
        Self::with_directory(config, directory.as_deref())
    }

    /// Does the same, with libpq's default files in `directory`.
    pub(super) fn with_directory(config: &Config, directory: Option<&Path>) -> Result<Self, Error> {
        config.check_complete()?;
        let mode = config.effective().ssl_mode();
        let base = match config.get_client_config() {
            Some(client) => Base::Custom(client.clone()),
            None => Base::Parameters(Box::new(FromParameters::new(config, mode, directory)?)),
        };
        Ok(Self {
            base,
            mode,
            sni: config.get_ssl_sni(),
            negotiation: config.get_ssl_negotiation(),
            certificate_mode: config.get_ssl_cert_mode(),
        })
    }

    /// Returns whether a server that is accepted was verified: by a trusted authority, or because its certificate is
    /// itself trusted. The user's own `ClientConfig` is assumed to verify.
    pub(crate) fn verifies(&self) -> bool {
        match &self.base {
            Base::Custom(_) => true,
            Base::Parameters(parameters) => parameters.trust.is_some(),
        }
    }

    /// Returns the file in which a client certificate was searched.
    pub(super) fn certificate_file(&self) -> Option<PathBuf> {
        match &self.base {
            Base::Custom(_) => None,
            Base::Parameters(parameters) => parameters.certificate.path.clone(),
        }
    }

    /// Returns the file of the client certificate that the configuration names, if it does not exist.
    pub(crate) fn missing_certificate(&self) -> Option<&Path> {
        match &self.base {
            Base::Custom(_) => None,
            Base::Parameters(parameters) => parameters.certificate.missing(),
        }
    }

    /// Returns the configuration of rustls for a connection to this server.
    pub(super) fn client_config(
        &self,
        host: Option<&ServerName<'static>>,
        server: &Server,
        info: &Arc<HandshakeInfo>,
    ) -> Result<Arc<ClientConfig>, Error> {
        let mut client = match &self.base {
            Base::Custom(own) => ClientConfig::clone(own),
            Base::Parameters(parameters) => {
                parameters.client_config(self.check_of(parameters, host, server)?, info)?
            }
        };
        let inner = match (&self.base, self.certificate_mode) {
            (_, SslCertMode::Disable) => None,
            (Base::Custom(own), _) => Some(own.client_auth_cert_resolver.clone()),
            (Base::Parameters(parameters), _) => parameters
                .certificate
                .key
                .clone()
                .map(|key| Arc::new(FixedCertificate(key)) as Arc<_>),
        };
        client.client_auth_cert_resolver =
            Arc::new(CertificateResolver { inner, info: info.clone() });
        client.enable_sni &= self.sni;
        client.enable_early_data = false;
        client.resumption = Resumption::disabled();
        Ok(Arc::new(client))
    }

    /// Returns the check of the server's certificate.
    fn check_of(
        &self,
        parameters: &FromParameters,
        host: Option<&ServerName<'static>>,
        server: &Server,
    ) -> Result<Check, Error> {
        let Some(trust) = parameters.trust.clone() else { return Ok(Check::Nothing) };
        if self.mode != SslMode::VerifyFull {
            return Ok(Check::Chain(trust));
        }
        match host {
            Some(host) => Ok(Check::Host(trust, host.clone())),
            None => {
                let message = match server.host() {
                    Some(host) => format!(
                        "sslmode=verify-full, and {host:?} is not a name that a certificate can have"
                    ),
                    None => "sslmode=verify-full, and no host is given".to_owned(),
                };
                Err(Error::new(ErrorKind::Config, message).with_hint(
                    "set host to the name in the server's certificate; hostaddr may stay",
                ))
            }
        }
    }
}

impl FromParameters {
    fn new(config: &Config, mode: SslMode, directory: Option<&Path>) -> Result<Self, Error> {
        let provider = provider()?;
        let trust = Trust::load(config, mode, directory)?.map(Arc::new);
        let named = config.get_ssl_crl().or_else(|| config.get_ssl_crl_dir());
        if let (None, Some(list)) = (&trust, named) {
            let message = format!(
                "the list of revoked certificates {list:?} is given, but no authority to trust"
            );
            // The file of authorities may exist at the next attempt.
            return Err(file::wrong(message).with_hint(
                "name the file of authorities with sslrootcert: without it no certificate is verified",
            ));
        }
        let certificate = ClientCertificate::load(config, directory, &provider)?;
        let lowest = config.get_ssl_min_protocol_version().unwrap_or(TlsVersion::V1_2);
        let highest = config.get_ssl_max_protocol_version().unwrap_or(TlsVersion::V1_3);
        let mut versions = Vec::new();
        if highest >= TlsVersion::V1_3 {
            versions.push(&TLS13);
        }
        if lowest <= TlsVersion::V1_2 {
            versions.push(&TLS12);
        }
        Ok(Self { provider, versions, trust, certificate })
    }

    fn client_config(
        &self,
        check: Check,
        info: &Arc<HandshakeInfo>,
    ) -> Result<ClientConfig, Error> {
        let algorithms = self.provider.signature_verification_algorithms;
        let verifier = Verifier { check, algorithms, info: info.clone() };
        // Not with rustls' own choice of a provider, which panics if there are two.
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&self.versions)
            .map_err(|error| {
                let message = "the cryptography has no cipher for these versions of TLS";
                Error::caused(ErrorKind::Tls, message, error)
            })?;
        // rustls calls every custom verifier dangerous. This one skips checks only if libpq's parameters say so.
        Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth())
    }
}

/// Returns the cryptography provider that the process has installed, otherwise the one that is compiled in, ring before
/// AWS-LC.
///
/// rustls' own choice panics if other crates of the program have compiled in both.
pub(super) fn provider() -> Result<Arc<CryptoProvider>, Error> {
    CryptoProvider::get_default().cloned().or_else(compiled).ok_or_else(|| {
        let message = "TLS has no cryptography: this program was built without a provider";
        Error::new(ErrorKind::Tls, message).with_hint(
            "build pgbell with the feature tls-ring or tls-aws-lc-rs, or install a provider with \
             rustls::crypto::CryptoProvider::install_default",
        )
    })
}

#[cfg(feature = "tls-ring")]
fn compiled() -> Option<Arc<CryptoProvider>> {
    Some(Arc::new(rustls::crypto::ring::default_provider()))
}

#[cfg(all(feature = "tls-aws-lc-rs", not(feature = "tls-ring")))]
fn compiled() -> Option<Arc<CryptoProvider>> {
    Some(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
fn compiled() -> Option<Arc<CryptoProvider>> {
    None
}
