//! Whose cryptography is used.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use crate::{Error, ErrorKind};

/// The provider that the process has installed, else the one that is compiled in; ring before AWS-LC.
///
/// rustls' own choice panics when other crates of the program have compiled in two of them.
pub(super) fn provider() -> Result<Arc<CryptoProvider>, Error> {
    CryptoProvider::get_default().cloned().or_else(compiled).ok_or_else(|| {
        let message = "TLS has no cryptography: this program was built without a provider of it";
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
