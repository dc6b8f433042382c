//! The trusted authorities, and their lists of revoked certificates.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use super::authorities::Authorities;
use super::file::{self, Access};
use super::lists::{RevocationList, RevocationLists};
use crate::config::Config;
use crate::config::SslMode;
use crate::config::security::SYSTEM_ROOTS;
use crate::error::{Error, ErrorKind};

/// The default files of authorities and of revoked certificates, in the directory of libpq's files.
const ROOT_FILE: &str = "root.crt";
const REVOKED_FILE: &str = "root.crl";

/// The name of such a list in errors.
const REVOKED: &str = "the list of revoked certificates";

/// The certificates by which servers are verified.
pub(super) struct Trust {
    pub(super) authorities: Authorities,
    /// All certificates of the file, also those that must not sign others: a server that sends one of them is accepted.
    pinned: Vec<CertificateDer<'static>>,
    pub(super) lists: RevocationLists,
    pub(super) origin: Origin,
}

/// The source of the authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    System,
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("the list of this system"),
            Self::File(path) => write!(f, "{path:?}"),
        }
    }
}

impl Trust {
    /// Loads the files that the configuration names, or the default ones in `directory`. `None` if there is no file of
    /// authorities: then every server is accepted.
    ///
    /// As in libpq, a file of authorities that exists is used with every `sslmode`, but only `verify-ca` and
    /// `verify-full` require one. Unlike in libpq, a list of revoked certificates that the configuration names
    /// must exist and be well-formed.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], with the name of the file.
    pub(super) fn load(
        config: &Config,
        mode: SslMode,
        directory: Option<&Path>,
    ) -> Result<Option<Self>, Error> {
        let (path, bytes) = match config.get_ssl_root_cert() {
            Some(SYSTEM_ROOTS) => return Self::system().map(Some),
            Some(path) => {
                let path = PathBuf::from(path);
                let bytes = file::read_named("the file of authorities", &path, Access::Any)?;
                (Some(path), bytes)
            }
            None => match directory.map(|directory| directory.join(ROOT_FILE)) {
                None => (None, None),
                Some(path) => {
                    let bytes = file::read_default("the file of authorities", &path, Access::Any)?;
                    (Some(path), bytes)
                }
            },
        };
        let (path, bytes) = match (path, bytes) {
            (Some(path), Some(bytes)) => (path, bytes),
            (path, _) if matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull) => {
                let is_named = config.get_ssl_root_cert().is_some();
                return Err(missing(mode, path.as_deref(), is_named));
            }
            _ => return Ok(None),
        };
        let (authorities, pinned) = read_authorities(&path, &bytes)?;
        let lists = read_revoked(config, directory)?;
        Ok(Some(Self { authorities, pinned, lists, origin: Origin::File(path) }))
    }

    /// Returns whether a certificate is one of those in the file, byte for byte.
    pub(super) fn is_pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        self.pinned.iter().any(|pinned| pinned == certificate)
    }

    fn system() -> Result<Self, Error> {
        let found = rustls_native_certs::load_native_certs();
        // Certificates of the system's list that cannot be used are ignored.
        let mut usable = found.certs;
        usable.retain(|certificate| webpki::anchor_from_trusted_cert(certificate).is_ok());
        let authorities = Authorities::new(&usable).unwrap_or_default();
        if authorities.anchors.is_empty() {
            let message = "sslrootcert=system, but this system has no list of authorities";
            let hint = "install it (package ca-certificates), or name a file with sslrootcert";
            let error = match found.errors.into_iter().next() {
                Some(cause) => Error::caused(ErrorKind::Config, message, cause).passing(),
                None => file::wrong(message),
            };
            return Err(error.with_hint(hint));
        }
        // Servers do not use these certificates themselves, and libpq uses no lists of revoked certificates here.
        let (pinned, lists) = (Vec::new(), RevocationLists::default());
        Ok(Self { authorities, pinned, lists, origin: Origin::System })
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("origin", &self.origin)
            .field("anchors", &self.authorities.anchors.len())
            .field("pinned", &self.pinned.len())
            .field("lists", &self.lists.len())
            .finish_non_exhaustive()
    }
}

#[cold]
fn missing(mode: SslMode, path: Option<&Path>, is_named: bool) -> Error {
    let message = match path {
        Some(path) => {
            let more =
                if is_named { "" } else { ", or is in a directory that this process cannot enter" };
            format!(
                "sslmode={mode} needs the file of authorities {path:?}, which does not exist{more}"
            )
        }
        None => {
            format!("sslmode={mode} needs a file of authorities, and there is no home directory")
        }
    };
    file::wrong(message).with_hint(
        "name it with sslrootcert, or trust the system's list with sslrootcert=system and \
         sslmode=verify-full",
    )
}

fn read_authorities(
    path: &Path,
    bytes: &[u8],
) -> Result<(Authorities, Vec<CertificateDer<'static>>), Error> {
    let malformed = |at: usize, cause: &dyn fmt::Display| {
        let number = at + 1;
        let message = format!(
            "certificate {number} in the file of authorities {path:?} is malformed: {cause}"
        );
        file::wrong(message)
    };
    let mut given = Vec::new();
    for (at, certificate) in CertificateDer::pem_slice_iter(bytes).enumerate() {
        given.push(certificate.map_err(|error| malformed(at, &error))?);
    }
    if given.is_empty() {
        let message = format!("the file of authorities {path:?} contains no certificate");
        return Err(file::wrong(message).with_hint("it must be PEM: -----BEGIN CERTIFICATE-----"));
    }
    let authorities = Authorities::new(&given).map_err(|(at, error)| malformed(at, &error))?;
    Ok((authorities, given))
}

fn read_revoked(config: &Config, directory: Option<&Path>) -> Result<RevocationLists, Error> {
    let mut lists = Vec::new();
    let named = config.get_ssl_crl().map(PathBuf::from);
    let within = config.get_ssl_crl_dir().map(PathBuf::from);
    let usual = match (&named, &within) {
        (None, None) => directory.map(|directory| directory.join(REVOKED_FILE)),
        _ => None,
    };
    if let Some(path) = named {
        let bytes = read_list(&path)?.ok_or_else(|| no_list(&path, "does not exist"))?;
        if add_lists(&mut lists, &path, &bytes)? == 0 {
            return Err(no_list(&path, "contains no list of revoked certificates"));
        }
    }
    if let Some(path) = within {
        let unreadable = |error: std::io::Error| {
            let message = format!("sslcrldir {path:?} cannot be read");
            Error::caused(ErrorKind::Config, message, error).passing()
        };
        for entry in fs::read_dir(&path).map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.path();
            if file.is_file() {
                add_lists(&mut lists, &file, &read_list(&file)?.unwrap_or_default())?;
            }
        }
        if lists.is_empty() {
            return Err(no_list(&path, "contains no list of revoked certificates"));
        }
    }
    if let Some(path) = usual
        && let Some(bytes) = file::read_default(REVOKED, &path, Access::Any)?
    {
        add_lists(&mut lists, &path, &bytes)?;
    }
    Ok(RevocationLists::new(lists))
}

fn read_list(path: &Path) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>, Error> {
    file::read_named(REVOKED, path, Access::Any)
}

#[cold]
fn no_list(path: &Path, why: &str) -> Error {
    let message = format!("the list of revoked certificates {path:?} {why}");
    file::wrong(message)
        .with_hint("it must be PEM: -----BEGIN X509 CRL-----; libpq would check no list then")
}

/// Adds the lists in a file, and returns their number.
fn add_lists(lists: &mut Vec<RevocationList>, path: &Path, bytes: &[u8]) -> Result<usize, Error> {
    let before = lists.len();
    for list in CertificateRevocationListDer::pem_slice_iter(bytes) {
        let malformed = |cause: &dyn fmt::Display| {
            let message =
                format!("the list of revoked certificates {path:?} is malformed: {cause}");
            file::wrong(message)
        };
        let list = list.map_err(|error| malformed(&error))?;
        lists.push(RevocationList::read(list).map_err(|error| malformed(&error))?);
    }
    Ok(lists.len() - before)
}
