//! Certificates and their keys, which tests make for themselves.

mod authority;
mod certificate;
mod key;
mod leaf;
mod openssl;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

pub use authority::{Authority, RevocationList};
pub use certificate::Certificate;
pub use key::{Key, Signature};
pub use leaf::{Ca, Leaf};

use crate::error::Error;
use crate::guard::Scratch;
use crate::user::User;
use leaf::Request;

/// Makes certificates with the `openssl` command, in a directory that only the caller can enter.
///
/// The directory is removed when this value and everything that was made with it are dropped, and when the process
/// ends in any way. A cluster has its own copies.
///
/// ```no_run
/// use pgbell_testkit::{Certificates, Cluster, Leaf, Signature};
///
/// let certificates = Certificates::new()?;
/// let root = certificates.authority("root")?;
/// let server = root.issue(&Leaf::server("localhost").signature(Signature::Sha384))?;
/// let cluster = Cluster::builder().tls(&server).start()?;
/// // A client checks the server's certificate with this file.
/// let sslrootcert = root.certificate().path();
/// # let _ = (cluster, sslrootcert);
/// # Ok::<(), pgbell_testkit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Certificates {
    area: Arc<Area>,
}

#[derive(Debug)]
struct Area {
    scratch: Scratch,
    next: AtomicU32,
}

impl Certificates {
    /// Makes an empty directory for certificates.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new() -> Result<Self, Error> {
        let scratch = Scratch::new(&User::caller(), None)?;
        Ok(Self { area: Arc::new(Area { scratch, next: AtomicU32::new(0) }) })
    }

    /// Makes a root: an authority that signs itself.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no `openssl` command, otherwise the error of the command.
    pub fn authority(&self, ca: impl Into<Ca>) -> Result<Authority, Error> {
        let ca = ca.into();
        let certificate = self.self_sign(&ca.request(true))?;
        Ok(Authority::new(certificate, ca.key, String::new()))
    }

    /// Makes a self-signed certificate.
    ///
    /// # Errors
    /// As [`authority`](Self::authority).
    pub fn self_signed(&self, leaf: &Leaf) -> Result<Certificate, Error> {
        self.self_sign(&leaf.request(true)?)
    }

    fn self_sign(&self, request: &Request<'_>) -> Result<Certificate, Error> {
        let dir = openssl::prepare(&self.area, request)?;
        openssl::sign(request, request.key, &dir, &dir, &["-selfsign"])?;
        Certificate::read(&self.area, dir, "")
    }
}
