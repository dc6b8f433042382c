//! Certificates and their keys, made by the test that uses them.

mod key;
mod leaf;
mod openssl;

use std::fmt;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use key::{Key, Signature};
pub use leaf::{Ca, Leaf};

use crate::error::Error;
use crate::files::write_private;
use crate::guard::Scratch;
use crate::user::User;
use leaf::Request;

/// The command's configuration, in the directory of each key. Paths are relative to that: a path in it could
/// hold characters that mean something there.
const CONFIGURATION: &str = "\
[ca]
default_ca = authority
[authority]
database = index
new_certs_dir = issued
certificate = certificate.pem
private_key = key.pem
serial = serial
crlnumber = crlnumber
crl_extensions = list
default_crl_days = 3650
default_md = default
unique_subject = no
policy = anything
[anything]
commonName = optional
[list]
authorityKeyIdentifier = keyid
[req]
distinguished_name = subject
string_mask = utf8only
[subject]
";

/// Makes certificates with the `openssl` command, in a directory that only the caller can enter.
///
/// The directory is removed when this and everything that was made of it is dropped, and when the process
/// ends in any way. A cluster has copies of its own.
///
/// ```no_run
/// use pgbell_testkit::{Certificates, Cluster, Key, Leaf, Signature};
///
/// let certificates = Certificates::new()?;
/// let root = certificates.authority("root")?;
/// let server = root.issue(&Leaf::server("localhost").signature(Signature::Sha384))?;
/// let cluster = Cluster::builder().tls(&server).start()?;
/// // A client checks it with this file.
/// let _ = root.certificate().path();
/// # let _ = (cluster, Key::Ed25519);
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
    /// An empty directory for certificates.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self, Error> {
        let scratch = Scratch::new(&User::caller(), None)?;
        Ok(Self { area: Arc::new(Area { scratch, next: AtomicU32::new(0) }) })
    }

    /// A root: an authority that signs itself.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is no `openssl` command, else what that says.
    pub fn authority(&self, ca: impl Into<Ca>) -> Result<Authority, Error> {
        let ca = ca.into();
        let certificate = self.self_sign(&ca.request(true), "")?;
        Ok(Authority {
            certificate,
            key: ca.key,
            intermediates: String::new(),
            busy: Arc::new(Mutex::new(())),
        })
    }

    /// A certificate that signs itself.
    ///
    /// # Errors
    /// As [`authority`](Self::authority).
    pub fn self_signed(&self, leaf: &Leaf) -> Result<Certificate, Error> {
        self.self_sign(&leaf.request(true)?, "")
    }

    fn self_sign(&self, request: &Request<'_>, intermediates: &str) -> Result<Certificate, Error> {
        let dir = prepare(&self.area, request)?;
        sign(request, request.key, &dir, &dir, &["-selfsign"])?;
        Certificate::read(&self.area, dir, intermediates)
    }
}

/// Something that issues certificates: a root or an intermediate.
#[derive(Debug, Clone)]
pub struct Authority {
    certificate: Certificate,
    key: Key,
    /// PEM of what a server shows beside its leaf: this authority and those above it, the root left out.
    intermediates: String,
    /// The command's list of what it issued is written by one at a time.
    busy: Arc<Mutex<()>>,
}

impl Authority {
    /// An authority below this one.
    ///
    /// # Errors
    /// As [`Certificates::authority`].
    pub fn intermediate(&self, ca: impl Into<Ca>) -> Result<Self, Error> {
        let ca = ca.into();
        let certificate = self.sign(&ca.request(false))?;
        let intermediates = format!("{}{}", certificate.pem, self.intermediates);
        Ok(Self { certificate, key: ca.key, intermediates, busy: Arc::new(Mutex::new(())) })
    }

    /// A certificate of a server or of a client.
    ///
    /// # Errors
    /// As [`Certificates::authority`], and when the signature does not go with this authority's key.
    pub fn issue(&self, leaf: &Leaf) -> Result<Certificate, Error> {
        self.sign(&leaf.request(false)?)
    }

    /// The authority's own certificate: what others trust.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Takes back a certificate that this authority issued. The lists that are made from then on name it.
    ///
    /// # Errors
    /// When it is revoked already.
    pub fn revoke(&self, certificate: &Certificate) -> Result<(), Error> {
        let _alone = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let path = text(certificate.path())?;
        openssl::run(&self.certificate.dir, &["ca", "-batch", "-revoke", path])
    }

    /// The list of what is revoked.
    ///
    /// # Errors
    /// What the `openssl` command says.
    pub fn revocation_list(&self) -> Result<RevocationList, Error> {
        let number = self.certificate.area.next.fetch_add(1, Ordering::Relaxed);
        let path = self.certificate.dir.join(format!("revoked-{number}.pem"));
        let _alone = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        openssl::run(&self.certificate.dir, &["ca", "-gencrl", "-out", text(&path)?])?;
        let pem = fs::read_to_string(&path).map_err(Error::on("read", &path))?;
        Ok(RevocationList { _area: self.certificate.area.clone(), path, pem })
    }

    fn sign(&self, request: &Request<'_>) -> Result<Certificate, Error> {
        let area = &self.certificate.area;
        let dir = prepare(area, request)?;
        let _alone = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        sign(request, self.key, &self.certificate.dir, &dir, &[])?;
        Certificate::read(area, dir, &self.intermediates)
    }
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Certificate {
    area: Arc<Area>,
    dir: PathBuf,
    path: PathBuf,
    chain_path: PathBuf,
    key_path: PathBuf,
    pem: String,
    chain_pem: String,
    key_pem: String,
}

impl Certificate {
    fn read(area: &Arc<Area>, dir: PathBuf, intermediates: &str) -> Result<Self, Error> {
        let [path, chain_path, key_path] =
            ["certificate.pem", "chain.pem", "key.pem"].map(|name| dir.join(name));
        let pem = fs::read_to_string(&path).map_err(Error::on("read", &path))?;
        let key_pem = fs::read_to_string(&key_path).map_err(Error::on("read", &key_path))?;
        let chain_pem = format!("{pem}{intermediates}");
        write_private(&chain_path, chain_pem.as_bytes())?;
        let area = area.clone();
        Ok(Self { area, dir, path, chain_path, key_path, pem, chain_pem, key_pem })
    }

    /// The file of the certificate alone.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of the certificate and the intermediates that lead to its root, which is left out.
    #[must_use]
    pub fn chain_path(&self) -> &Path {
        &self.chain_path
    }

    /// The file of the key (PKCS #8, mode 0600, the caller's).
    #[must_use]
    pub fn key_path(&self) -> &Path {
        &self.key_path
    }

    /// The certificate alone.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate and the intermediates that lead to its root, which is left out.
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

/// A list of revoked certificates.
#[derive(Debug, Clone)]
pub struct RevocationList {
    /// The file is there as long as this.
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

/// A directory with a new key, a request for its certificate, and all that it needs to issue others.
fn prepare(area: &Area, request: &Request<'_>) -> Result<PathBuf, Error> {
    let subject = request.subject()?;
    let number = area.next.fetch_add(1, Ordering::Relaxed);
    let dir = area.scratch.dir().join(number.to_string());
    for path in [&dir, &dir.join("issued")] {
        DirBuilder::new().mode(0o700).create(path).map_err(Error::on("create", path))?;
    }
    write_private(&dir.join("openssl.cnf"), CONFIGURATION.as_bytes())?;
    write_private(&dir.join("extensions.cnf"), request.extensions.as_bytes())?;
    write_private(&dir.join("index"), b"")?;
    write_private(&dir.join("crlnumber"), b"01\n")?;
    // The command writes to a file that is private already.
    write_private(&dir.join("key.pem"), b"")?;
    openssl::run(&dir, &[&["genpkey", "-out", "key.pem"], request.key.options()].concat())?;
    openssl::run(
        &dir,
        &["req", "-new", "-utf8", "-subj", &subject, "-key", "key.pem", "-out", "request.pem"],
    )?;
    Ok(dir)
}

/// Signs what was prepared in `dir` with the key in `issuer`.
fn sign(
    request: &Request<'_>,
    key: Key,
    issuer: &Path,
    dir: &Path,
    more: &[&str],
) -> Result<(), Error> {
    let signature = Signature::options(request.signature, key)?;
    let [begin, end] = request.dates;
    let [from, to, extensions] =
        ["request.pem", "certificate.pem", "extensions.cnf"].map(|name| dir.join(name));
    let arguments = [
        &["ca", "-batch", "-notext", "-utf8", "-rand_serial", "-startdate", begin][..],
        &["-enddate", end, "-in", text(&from)?, "-out", text(&to)?],
        &["-extfile", text(&extensions)?],
        signature,
        more,
    ];
    openssl::run(issuer, &arguments.concat())
}

fn text(path: &Path) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| Error::new(format!("{} is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::process::Command;

    use super::*;

    /// What `openssl x509` shows of a certificate.
    fn shown(certificate: &Certificate, options: &[&str]) -> String {
        let mut command = Command::new("openssl");
        command.args(["x509", "-noout", "-in"]).arg(certificate.path()).args(options);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }

    /// What `openssl verify` says of the chain.
    fn verified(root: &Authority, certificate: &Certificate, options: &[&str]) -> String {
        let mut command = Command::new("openssl");
        // Level 0: SHA-1 is a signature like any other.
        command.args(["verify", "-auth_level", "0", "-CAfile"]).arg(root.certificate().path());
        command.args(options).arg("-untrusted").arg(certificate.chain_path());
        let output = command.arg(certificate.path()).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    #[test]
    fn keys_and_signatures_are_those_that_were_asked_for() {
        let certificates = Certificates::new().unwrap();
        let kinds = [
            (Key::P256, "ASN1 OID: prime256v1"),
            (Key::P384, "ASN1 OID: secp384r1"),
            (Key::Ed25519, "ED25519 Public-Key"),
            (Key::Rsa2048, "(2048 bit)"),
        ];
        let roots = kinds.map(|(key, shows)| {
            let root = certificates.authority(Ca::new(format!("{key:?}")).key(key)).unwrap();
            let found = shown(root.certificate(), &["-text"]);
            assert!(found.contains(shows), "{key:?}: {found}");
            root
        });
        let [p256, p384, ed25519, rsa] = &roots;
        let expect = [
            (p256, None, "ecdsa-with-SHA256"),
            (p256, Some(Signature::Sha1), "ecdsa-with-SHA1"),
            (p256, Some(Signature::Sha384), "ecdsa-with-SHA384"),
            (p384, Some(Signature::Sha512), "ecdsa-with-SHA512"),
            (ed25519, None, "ED25519"),
            (rsa, None, "sha256WithRSAEncryption"),
            (rsa, Some(Signature::Sha1), "sha1WithRSAEncryption"),
            (rsa, Some(Signature::Sha224), "sha224WithRSAEncryption"),
            (rsa, Some(Signature::Sha384), "sha384WithRSAEncryption"),
            (rsa, Some(Signature::Sha512), "sha512WithRSAEncryption"),
            (rsa, Some(Signature::PssSha256), "rsassaPss"),
            (rsa, Some(Signature::PssSha384), "rsassaPss"),
        ];
        for (root, signature, shows) in expect {
            let leaf = Leaf::server("localhost");
            let leaf = match signature {
                Some(signature) => leaf.signature(signature),
                None => leaf,
            };
            let issued = root.issue(&leaf).unwrap();
            let found = shown(&issued, &["-text"]);
            assert!(found.contains(&format!("Signature Algorithm: {shows}\n")), "{found}");
            if shows == "rsassaPss" {
                let hash =
                    if signature == Some(Signature::PssSha256) { "sha256" } else { "sha384" };
                assert!(found.contains(&format!("Hash Algorithm: {hash}")), "{found}");
            }
            assert!(verified(root, &issued, &[]).contains(": OK"));
        }
        for key in [p256, ed25519] {
            let pss = Leaf::server("localhost").signature(Signature::PssSha256);
            let error = key.issue(&pss).unwrap_err().to_string();
            assert!(error.contains("PssSha256"), "{error}");
        }
    }

    #[test]
    fn a_chain_leads_over_intermediates_to_the_root() {
        let certificates = Certificates::new().unwrap();
        let root = certificates.authority("root").unwrap();
        let upper = root.intermediate("upper").unwrap();
        let lower = upper.intermediate(Ca::new("lower").key(Key::P384)).unwrap();
        let leaf = lower.issue(&Leaf::server("localhost")).unwrap();
        assert_eq!(leaf.chain_pem().matches("BEGIN CERTIFICATE").count(), 3);
        assert_eq!(fs::read_to_string(leaf.chain_path()).unwrap(), leaf.chain_pem());
        assert!(leaf.chain_pem().starts_with(leaf.pem()));
        assert!(verified(&root, &leaf, &[]).contains(": OK"));
        assert!(verified(&upper, &leaf, &["-partial_chain"]).contains(": OK"));
        let stranger = certificates.authority("root").unwrap();
        assert!(!verified(&stranger, &leaf, &[]).contains(": OK"));

        let unfit = root.intermediate(Ca::new("unfit").without_constraints()).unwrap();
        let leaf = unfit.issue(&Leaf::server("localhost")).unwrap();
        assert!(verified(&root, &leaf, &[]).contains("invalid CA certificate"));
    }

    #[test]
    fn names_dates_and_purposes_are_those_that_were_asked_for() {
        let certificates = Certificates::new().unwrap();
        let root = certificates.authority("root").unwrap();
        let leaf = Leaf::server("*.example.com").dns_name("127.0.0.1");
        let leaf = leaf.ip_address([127, 0, 0, 1]).common_name("other");
        let issued = root.issue(&leaf).unwrap();
        let found = shown(&issued, &["-subject", "-ext", "subjectAltName,extendedKeyUsage"]);
        assert!(found.contains("CN = other") || found.contains("CN=other"), "{found}");
        for part in ["DNS:*.example.com", "DNS:127.0.0.1", "IP Address:127.0.0.1", "Server Auth"] {
            assert!(found.contains(part), "{part}: {found}");
        }
        for (host, fits) in [("a.example.com", true), ("example.com", false), ("other", false)] {
            let said = verified(&root, &issued, &["-verify_hostname", host]);
            assert_eq!(said.contains(": OK"), fits, "{host}: {said}");
        }
        // The command does not take such a name for one, it shows the bytes.
        let nul = root.issue(&Leaf::server("x").dns_name("good\0bad")).unwrap();
        assert!(shown(&nul, &["-ext", "subjectAltName"]).contains("good.bad"));
        let bare = root.issue(&Leaf::server("bare").without_names()).unwrap();
        assert!(!shown(&bare, &["-text"]).contains("Alternative Name"));

        for (leaf, says) in [
            (Leaf::server("x").expired(), "certificate has expired"),
            (Leaf::server("x").not_yet_valid(), "not yet valid"),
        ] {
            assert!(verified(&root, &root.issue(&leaf).unwrap(), &[]).contains(says));
        }

        let client = root.issue(&Leaf::client(r"bob ß/+\=")).unwrap();
        let name = shown(&client, &["-subject", "-nameopt", "RFC2253,-esc_msb,utf8"]);
        assert_eq!(name.trim(), r"subject=CN=bob ß/\+\\=", "{name}");
        assert!(verified(&root, &client, &["-purpose", "sslclient"]).contains(": OK"));
        assert!(!verified(&root, &client, &["-purpose", "sslserver"]).contains(": OK"));
    }

    #[test]
    fn a_certificate_can_sign_itself_as_a_leaf_and_as_an_authority() {
        let certificates = Certificates::new().unwrap();
        for (leaf, shows) in [
            (Leaf::server("localhost"), "CA:FALSE"),
            (Leaf::server("localhost").as_authority(), "CA:TRUE"),
        ] {
            let own = certificates.self_signed(&leaf).unwrap();
            let found = shown(&own, &["-text"]);
            assert!(found.contains(shows), "{found}");
            assert_eq!(own.chain_pem(), own.pem());
            let names = shown(&own, &["-issuer", "-subject", "-nameopt", "RFC2253"]);
            assert_eq!(names, "issuer=CN=localhost\nsubject=CN=localhost\n");
        }
    }

    #[test]
    fn a_revoked_certificate_is_on_the_list() {
        let certificates = Certificates::new().unwrap();
        for key in [Key::P256, Key::Ed25519] {
            let root = certificates.authority(Ca::new("root").key(key)).unwrap();
            let [good, bad] = [(), ()].map(|()| root.issue(&Leaf::server("localhost")).unwrap());
            root.revoke(&bad).unwrap();
            let list = root.revocation_list().unwrap();
            assert_eq!(fs::read_to_string(list.path()).unwrap(), list.pem());
            let check =
                |one| verified(&root, one, &["-crl_check", "-CRLfile", text(list.path()).unwrap()]);
            assert!(check(&good).contains(": OK"), "{}", check(&good));
            assert!(check(&bad).contains("certificate revoked"), "{}", check(&bad));
            assert!(root.revoke(&bad).is_err());
        }
    }

    #[test]
    fn keys_are_private_not_shown_and_gone_with_the_last_user() {
        let certificates = Certificates::new().unwrap();
        let root = certificates.authority("root").unwrap();
        let leaf = root.issue(&Leaf::client("bob")).unwrap();
        let dir = certificates.area.scratch.dir().to_owned();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        for one in [root.certificate(), &leaf] {
            let found = fs::metadata(one.key_path()).unwrap();
            assert_eq!(found.permissions().mode() & 0o777, 0o600);
            assert_eq!(found.uid(), fs::metadata("/proc/self").unwrap().uid());
            assert!(one.key_pem().contains("PRIVATE KEY"));
            assert!(!format!("{one:?}").contains("PRIVATE KEY"));
        }
        drop((certificates, root));
        assert!(leaf.key_path().exists());
        drop(leaf);
        assert!(!dir.exists());
    }
}
