//! The client's certificate and its key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::file::{self, Access};
use super::handshake_info::HandshakeInfo;
use crate::config::Config;
use crate::config::SslCertMode;
use crate::error::{Error, ErrorKind};

/// The default files of the certificate and the key, in the directory of libpq's files.
const CERTIFICATE_FILE: &str = "postgresql.crt";
const KEY_FILE: &str = "postgresql.key";

/// The client's certificate, if there is one.
#[derive(Debug, Clone)]
pub(super) struct ClientCertificate {
    pub(super) key: Option<Arc<CertifiedKey>>,
    /// The file in which it was searched.
    pub(super) path: Option<PathBuf>,
    /// The configuration names it.
    is_named: bool,
}

impl ClientCertificate {
    /// Loads the files that the configuration names, or the default ones in `directory`.
    ///
    /// As in libpq, it is not an error if the file of the certificate does not exist, even if the
    /// configuration names it: the server decides whether it requires one. A certificate without its key is an error.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], with the name of the file.
    pub(super) fn load(
        config: &Config,
        directory: Option<&Path>,
        provider: &CryptoProvider,
    ) -> Result<Self, Error> {
        let is_named = config.get_ssl_cert().is_some();
        let usual = |file: &str| directory.map(|directory| directory.join(file));
        let path = config.get_ssl_cert().map(PathBuf::from).or_else(|| usual(CERTIFICATE_FILE));
        let Some(path) = path.filter(|_| config.get_ssl_cert_mode() != SslCertMode::Disable) else {
            return Ok(Self { key: None, path: None, is_named });
        };
        let read = if is_named { file::read_named } else { file::read_default };
        let bytes = read("the client's certificate", &path, Access::Any)?;
        let Some(bytes) = bytes else { return Ok(Self { key: None, path: Some(path), is_named }) };
        let chain = read_chain(&path, &bytes)?;
        let key_path = match config.get_ssl_key() {
            Some(key) if is_in_engine(key) && !Path::new(key).exists() => {
                let message = format!("sslkey={key:?} names a key in an engine of OpenSSL");
                return Err(Error::new(ErrorKind::Unsupported, message)
                    .with_hint("only keys in files are supported"));
            }
            Some(key) => Some(PathBuf::from(key)),
            None => usual(KEY_FILE),
        };
        let no_key = |named: String| {
            let message =
                format!("there is the client's certificate {path:?}, but not its key{named}");
            file::wrong(message)
                .with_hint("name the key with sslkey, or send no certificate: sslcertmode=disable")
        };
        let Some(key_path) = key_path else { return Err(no_key(String::new())) };
        let bytes = file::read_named("the client's key", &key_path, Access::Key)?;
        let bytes = bytes.ok_or_else(|| no_key(format!(" {key_path:?}")))?;
        let key = read_key(&key_path, &bytes)?;
        let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| {
            let message = match error {
                rustls::Error::InconsistentKeys(_) => format!(
                    "the client's key {key_path:?} is not the one of the certificate {path:?}"
                ),
                error => format!("the client's key {key_path:?} cannot be used: {error}"),
            };
            file::wrong(message)
        })?;
        Ok(Self { key: Some(Arc::new(certified)), path: Some(path), is_named })
    }

    /// Returns the file that the configuration names, if it does not exist.
    pub(super) fn missing(&self) -> Option<&Path> {
        self.path.as_deref().filter(|_| self.is_named && self.key.is_none())
    }
}

/// Returns whether the value is `engine:key`, and neither `C:\key` nor a path with a colon in the name of the file.
fn is_in_engine(key: &str) -> bool {
    let engine = key.char_indices().skip(2).find(|(_, c)| *c == ':');
    engine.and_then(|(end, _)| key.get(..end)).is_some_and(|name| !name.contains(['/', '\\']))
}

fn read_chain(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let problem = match chain {
        Ok(chain) if !chain.is_empty() => return Ok(chain),
        Ok(_) => "contains no certificate in PEM (-----BEGIN CERTIFICATE-----)".to_owned(),
        Err(error) => format!("is malformed: {error}"),
    };
    Err(file::wrong(format!("the client's certificate {path:?} {problem}")))
}

/// Parses a key in PEM or, as in libpq, in DER.
fn read_key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    // `ENCRYPTED PRIVATE KEY`, and OpenSSL's older `Proc-Type: 4,ENCRYPTED`.
    if bytes.windows(9).any(|window| window == b"ENCRYPTED") {
        let message = format!("the client's key {path:?} is encrypted");
        return Err(Error::new(ErrorKind::Unsupported, message).passing().with_hint(
            "decrypt it into a file of mode 0600 that is named by sslkey: openssl pkey -in KEY -out FILE",
        ));
    }
    match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(key) => Ok(key),
        Err(error) => PrivateKeyDer::try_from(bytes.to_vec()).map_err(|_| {
            let message = format!("the client's key {path:?} contains no key");
            Error::caused(ErrorKind::Config, message, error).passing()
        }),
    }
}

/// Returns the certificate when the server requests it, and records the request.
#[derive(Debug)]
pub(super) struct CertificateResolver {
    pub(super) inner: Option<Arc<dyn ResolvesClientCert>>,
    pub(super) info: Arc<HandshakeInfo>,
}

impl ResolvesClientCert for CertificateResolver {
    fn resolve(&self, issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.info.set_certificate_requested();
        let key = self.inner.as_ref()?.resolve(issuers, schemes)?;
        if key.key.choose_scheme(schemes).is_some() {
            self.info.set_certificate_sent();
        }
        Some(key)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.only_raw_public_keys())
    }

    /// Always true, so that [`resolve`](Self::resolve) is called for every request.
    fn has_certs(&self) -> bool {
        true
    }
}

/// One certificate for every server. As in libpq, the server's list of authorities is ignored.
#[derive(Debug)]
pub(super) struct FixedCertificate(pub(super) Arc<CertifiedKey>);

impl ResolvesClientCert for FixedCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
