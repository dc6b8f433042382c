//! Authorities: they issue certificates and revoke them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use super::certificate::Certificate;
use super::key::Key;
use super::leaf::{Ca, Leaf, Request};
use super::{Area, openssl};
use crate::error::Error;

/// An authority that issues certificates: a root or an intermediate.
#[derive(Debug, Clone)]
pub struct Authority {
    certificate: Certificate,
    key: Key,
    /// PEM of the certificates that a server presents with its leaf: this authority and those above it, without the root.
    intermediates: String,
    /// The command's list of issued certificates must be written by one thread at a time.
    busy: Arc<Mutex<()>>,
}

impl Authority {
    pub(super) fn new(certificate: Certificate, key: Key, intermediates: String) -> Self {
        Self { certificate, key, intermediates, busy: Arc::new(Mutex::new(())) }
    }

    /// Makes an authority below this one.
    ///
    /// # Errors
    /// As [`Certificates::authority`](super::Certificates::authority).
    pub fn intermediate(&self, ca: impl Into<Ca>) -> Result<Self, Error> {
        let ca = ca.into();
        let certificate = self.sign(&ca.request(false))?;
        let intermediates = format!("{}{}", certificate.pem, self.intermediates);
        Ok(Self::new(certificate, ca.key, intermediates))
    }

    /// Issues a certificate of a server or of a client.
    ///
    /// # Errors
    /// As [`Certificates::authority`](super::Certificates::authority), and if the signature does not fit this authority's key.
    pub fn issue(&self, leaf: &Leaf) -> Result<Certificate, Error> {
        self.sign(&leaf.request(false)?)
    }

    /// Returns the authority's own certificate, which others trust.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Revokes a certificate that this authority issued. Lists that are made afterwards contain it.
    ///
    /// # Errors
    /// If it is revoked already.
    pub fn revoke(&self, certificate: &Certificate) -> Result<(), Error> {
        let _alone = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let path = openssl::text(certificate.path())?;
        openssl::run(&self.certificate.dir, &["ca", "-batch", "-revoke", path])
    }

    /// Makes the list of revoked certificates.
    ///
    /// # Errors
    /// If the `openssl` command fails.
    pub fn revocation_list(&self) -> Result<RevocationList, Error> {
        let number = self.certificate.area.next.fetch_add(1, Ordering::Relaxed);
        let path = self.certificate.dir.join(format!("revoked-{number}.pem"));
        let _alone = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        openssl::run(&self.certificate.dir, &["ca", "-gencrl", "-out", openssl::text(&path)?])?;
        let pem = fs::read_to_string(&path).map_err(Error::on("read", &path))?;
        Ok(RevocationList { _area: self.certificate.area.clone(), path, pem })
    }

    fn sign(&self, request: &Request<'_>) -> Result<Certificate, Error> {
        let area = &self.certificate.area;
        let dir = openssl::prepare(area, request)?;
        let _alone = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        openssl::sign(request, self.key, &self.certificate.dir, &dir, &[])?;
        Certificate::read(area, dir, &self.intermediates)
    }
}

/// A list of revoked certificates.
#[derive(Debug, Clone)]
pub struct RevocationList {
    /// Keeps the file.
    _area: Arc<Area>,
    path: PathBuf,
    pem: String,
}

impl RevocationList {
    /// The file of the list.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The list.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }
}
