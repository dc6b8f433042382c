//! From a configuration to what rustls is told.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};

use super::client_certificate::{Always, ClientCertificate, Shower};
use super::file;
use super::provider::provider;
use super::roots::Trust;
use super::told::Told;
use super::verifier::{Check, Verifier};
use crate::config::{Server, SslCertMode, SslMode, SslNegotiation, TlsVersion};
use crate::net::files;
use crate::{Config, Error, ErrorKind};

/// What one attempt to connect needs for TLS: files are read, and nothing is kept for the next attempt.
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
    /// The user's own, which says itself what is checked and shown.
    Own(Arc<ClientConfig>),
    Made(Box<Made>),
}

#[derive(Debug)]
struct Made {
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static SupportedProtocolVersion>,
    trust: Option<Arc<Trust>>,
    certificate: ClientCertificate,
}

/// A [`ClientConfig`] that a configuration carries.
#[derive(Debug)]
struct Attached(Arc<ClientConfig>);

impl Config {
    /// Sets what rustls is told, for what no parameter says: other cryptography, keys in hardware, checks of
    /// your own.
    ///
    /// It decides what is checked of a server and what is shown to it. `sslmode` still decides whether TLS is
    /// used, and `sslnegotiation`, `sslsni=0` and `sslcertmode` hold; `sslrootcert`, `sslcert`, `sslkey`,
    /// `sslcrl`, `sslcrldir`, `ssl_min_protocol_version` and `ssl_max_protocol_version` are not looked at. The
    /// protocol `postgresql` is offered whatever its `alpn_protocols` are, no session is resumed, and its
    /// cryptography must let go of the keys of a connection (`enable_secret_extraction` is set in a copy). A server that it
    /// accepts counts as verified: a verifier that accepts every certificate lets any server ask for the password in clear.
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
    pub fn rustls_0_23(self, client: Arc<ClientConfig>) -> Self {
        self.attach(Some("rustls_0_23"), Arc::new(Attached(client)))
    }
}

impl Tls {
    /// Reads the files that a resolved configuration names, away from the threads that run tasks.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the name of a file that is missing or malformed, [`ErrorKind::Unsupported`]
    /// for an encrypted key, [`ErrorKind::Tls`] when the program has no cryptography.
    pub(crate) async fn load(config: &Config) -> Result<Self, Error> {
        let config = config.clone();
        match tokio::task::spawn_blocking(move || Self::new(&config)).await {
            Ok(result) => result,
            Err(error) => Err(match error.try_into_panic() {
                // In the cryptography that the program has installed.
                Ok(payload) => Error::panicked("what read the files of TLS", &*payload),
                Err(error) => {
                    Error::caused(ErrorKind::Connect, "the files of TLS were not read", error)
                }
            }),
        }
    }

    /// As [`load`](Self::load), here and now.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let home = files::home(|name| std::env::var_os(name));
        // On Windows the home of these files is a directory of its own already.
        let directory =
            home.map(|home| if cfg!(windows) { home } else { home.join(".postgresql") });
        Self::with_directory(config, directory.as_deref())
    }

    /// The same with libpq's files in `directory`.
    pub(super) fn with_directory(config: &Config, directory: Option<&Path>) -> Result<Self, Error> {
        config.check_complete()?;
        let mode = config.effective_ssl_mode();
        let base = match config.attachment::<Attached>() {
            Some(attached) => Base::Own(attached.0.clone()),
            None => Base::Made(Box::new(Made::new(config, mode, directory)?)),
        };
        Ok(Self {
            base,
            mode,
            sni: config.get_ssl_sni(),
            negotiation: config.get_ssl_negotiation(),
            certificate_mode: config.get_ssl_cert_mode(),
        })
    }

    /// Whether a server that is accepted was verified: an authority vouches for its certificate, or it is one that was
    /// given. A `ClientConfig` of the user's own is taken to verify.
    pub(crate) fn verifies(&self) -> bool {
        match &self.base {
            Base::Own(_) => true,
            Base::Made(made) => made.trust.is_some(),
        }
    }

    /// Where a certificate of ours was looked for.
    pub(super) fn certificate_file(&self) -> Option<PathBuf> {
        match &self.base {
            Base::Own(_) => None,
            Base::Made(made) => made.certificate.path.clone(),
        }
    }

    /// The file of our certificate that the configuration names, if it does not exist.
    pub(crate) fn missing_certificate(&self) -> Option<&Path> {
        match &self.base {
            Base::Own(_) => None,
            Base::Made(made) => made.certificate.missing(),
        }
    }

    /// What rustls is told for a connection to this server.
    pub(super) fn client_config(
        &self,
        host: Option<&ServerName<'static>>,
        server: &Server,
        told: &Arc<Told>,
    ) -> Result<Arc<ClientConfig>, Error> {
        let mut client = match &self.base {
            Base::Own(own) => ClientConfig::clone(own),
            Base::Made(made) => made.client_config(self.check_of(made, host, server)?, told)?,
        };
        let inner = match (&self.base, self.certificate_mode) {
            (_, SslCertMode::Disable) => None,
            (Base::Own(own), _) => Some(own.client_auth_cert_resolver.clone()),
            (Base::Made(made), _) => {
                made.certificate.key.clone().map(|key| Arc::new(Always(key)) as Arc<_>)
            }
        };
        client.client_auth_cert_resolver = Arc::new(Shower { inner, told: told.clone() });
        client.enable_sni &= self.sni;
        client.enable_secret_extraction = true;
        client.enable_early_data = false;
        client.resumption = Resumption::disabled();
        Ok(Arc::new(client))
    }

    /// What is asked of the server's certificate.
    fn check_of(
        &self,
        made: &Made,
        host: Option<&ServerName<'static>>,
        server: &Server,
    ) -> Result<Check, Error> {
        let Some(trust) = made.trust.clone() else { return Ok(Check::Nothing) };
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

impl Made {
    fn new(config: &Config, mode: SslMode, directory: Option<&Path>) -> Result<Self, Error> {
        let provider = provider()?;
        let trust = Trust::load(config, mode, directory)?.map(Arc::new);
        let named = config.get_ssl_crl().or_else(|| config.get_ssl_crl_dir());
        if let (None, Some(list)) = (&trust, named) {
            let message = format!(
                "the list of revoked certificates {list:?} is given, but no authority to trust"
            );
            // A file of them that does not exist may be there at the next attempt.
            return Err(file::wrong(message).with_hint(
                "name the file of authorities with sslrootcert: without it nothing is checked",
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

    fn client_config(&self, check: Check, told: &Arc<Told>) -> Result<ClientConfig, Error> {
        let algorithms = self.provider.signature_verification_algorithms;
        let verifier = Verifier { check, algorithms, told: told.clone() };
        // Never rustls' own choice of a provider, which panics when there are two.
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&self.versions)
            .map_err(|error| {
                let message = "the cryptography has no cipher for these versions of TLS";
                Error::caused(ErrorKind::Tls, message, error)
            })?;
        // "Dangerous" is what `sslmode` stands for. No public way leads to a verifier that asks for nothing
        // but the parameters that libpq has for it.
        Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth())
    }
}
