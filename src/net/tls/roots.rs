//! Whom to trust: authorities, and what they have taken back.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use super::authorities::Authorities;
use super::file::{self, Access};
use super::lists::{List, Lists};
use crate::config::SslMode;
use crate::config::security::SYSTEM_ROOTS;
use crate::{Config, Error, ErrorKind};

/// The user's own authorities and what they have revoked, in the directory of libpq's files.
const ROOT_FILE: &str = "root.crt";
const REVOKED_FILE: &str = "root.crl";

/// What errors call such a list.
const REVOKED: &str = "the list of revoked certificates";

/// What vouches for a server.
pub(super) struct Trust {
    pub(super) authorities: Authorities,
    /// Every certificate of the file, also those that vouch for no other else: a server that shows one is known by it.
    pinned: Vec<CertificateDer<'static>>,
    pub(super) lists: Lists,
    pub(super) origin: Origin,
}

/// Where the authorities come from.
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
    /// What the configuration and the files in `directory` say, or `None` where nobody is to be asked: then
    /// any server is believed to be the right one.
    ///
    /// As libpq has it, a file of authorities that exists is used with every `sslmode`; only `verify-ca` and
    /// `verify-full` insist on one. Unlike libpq, a list of revoked certificates that the configuration names
    /// must be there and well-formed.
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

    /// Whether it is one of the certificates that we were given, byte for byte.
    pub(super) fn is_pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        self.pinned.iter().any(|pinned| pinned == certificate)
    }

    fn system() -> Result<Self, Error> {
        let found = rustls_native_certs::load_native_certs();
        // A system's list may have some that we cannot use: the others count.
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
        // Nobody pins a whole list, and libpq looks for no revocations here.
        let (pinned, lists) = (Vec::new(), Lists::default());
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
        let message = format!("the file of authorities {path:?} holds no certificate");
        return Err(file::wrong(message).with_hint("it must be PEM: -----BEGIN CERTIFICATE-----"));
    }
    let authorities = Authorities::new(&given).map_err(|(at, error)| malformed(at, &error))?;
    Ok((authorities, given))
}

fn read_revoked(config: &Config, directory: Option<&Path>) -> Result<Lists, Error> {
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
            return Err(no_list(&path, "holds no list of revoked certificates"));
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
            return Err(no_list(&path, "holds no list of revoked certificates"));
        }
    }
    if let Some(path) = usual
        && let Some(bytes) = file::read_default(REVOKED, &path, Access::Any)?
    {
        add_lists(&mut lists, &path, &bytes)?;
    }
    Ok(Lists::new(lists))
}

fn read_list(path: &Path) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>, Error> {
    file::read_named(REVOKED, path, Access::Any)
}

#[cold]
fn no_list(path: &Path, why: &str) -> Error {
    let message = format!("the list of revoked certificates {path:?} {why}");
    file::wrong(message).with_hint(
        "it must be PEM: -----BEGIN X509 CRL-----; libpq would not look at any list then",
    )
}

/// Adds the lists in a file and says how many there were.
fn add_lists(lists: &mut Vec<List>, path: &Path, bytes: &[u8]) -> Result<usize, Error> {
    let before = lists.len();
    for list in CertificateRevocationListDer::pem_slice_iter(bytes) {
        let malformed = |cause: &dyn fmt::Display| {
            let message =
                format!("the list of revoked certificates {path:?} is malformed: {cause}");
            file::wrong(message)
        };
        let list = list.map_err(|error| malformed(&error))?;
        lists.push(List::read(list).map_err(|error| malformed(&error))?);
    }
    Ok(lists.len() - before)
}
