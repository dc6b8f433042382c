//! A certificate and its files.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Area;
use crate::error::Error;
use crate::files::create;

/// A certificate with its key.
#[derive(Clone)]
pub struct Certificate {
    pub(super) area: Arc<Area>,
    pub(super) dir: PathBuf,
    path: PathBuf,
    chain_path: PathBuf,
    key_path: PathBuf,
    pub(super) pem: String,
    chain_pem: String,
    key_pem: String,
}

impl Certificate {
    pub(super) fn read(area: &Arc<Area>, dir: PathBuf, intermediates: &str) -> Result<Self, Error> {
        let [path, chain_path, key_path] =
            ["certificate.pem", "chain.pem", "key.pem"].map(|name| dir.join(name));
        let pem = fs::read_to_string(&path).map_err(Error::on("read", &path))?;
        let key_pem = fs::read_to_string(&key_path).map_err(Error::on("read", &key_path))?;
        let chain_pem = format!("{pem}{intermediates}");
        create(&chain_path, chain_pem.as_bytes(), 0o600)?;
        let area = area.clone();
        Ok(Self { area, dir, path, chain_path, key_path, pem, chain_pem, key_pem })
    }

    /// The file of the certificate alone.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the file of the certificate and the intermediates below its root, without the root.
    #[must_use]
    pub fn chain_path(&self) -> &Path {
        &self.chain_path
    }

    /// Returns the file of the key (PKCS #8, mode 0600, owned by the caller).
    #[must_use]
    pub fn key_path(&self) -> &Path {
        &self.key_path
    }

    /// The certificate alone.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns the certificate and the intermediates below its root, without the root.
    #[must_use]
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The key.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

impl fmt::Debug for Certificate {
    // Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("path", &self.path).finish_non_exhaustive()
    }
}
