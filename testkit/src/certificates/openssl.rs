//! The `openssl` command. No crate makes everything that tests need, such as RSA keys and signatures with SHA-1 or RSA-PSS.

use std::env;
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use super::Area;
use super::key::{Key, Signature};
use super::leaf::Request;
use crate::error::{Error, NotFound};
use crate::files::create;

/// The command's configuration, in the directory of each key. Paths are relative to that directory, because an absolute path
/// could have characters with a meaning in this syntax.
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

/// Returns `PGBELL_OPENSSL`, else `openssl` on `PATH`.
fn program() -> OsString {
    env::var_os("PGBELL_OPENSSL").filter(|path| !path.is_empty()).unwrap_or("openssl".into())
}

/// Runs the command in a directory with its configuration, `openssl.cnf`. That of the system is not read.
pub(super) fn run(dir: &Path, arguments: &[&str]) -> Result<(), Error> {
    let program = program();
    let mut command = Command::new(&program);
    command.args(arguments).current_dir(dir).env("OPENSSL_CONF", "openssl.cnf");
    let output = command.stdin(Stdio::null()).output().map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => Error::from(NotFound::openssl(format!(
            "the command {} was not found",
            program.to_string_lossy()
        ))),
        _ => Error::io(format!("cannot run {}", program.to_string_lossy()), cause),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let what = arguments.first().copied().unwrap_or_default();
    Err(Error::new(format!("openssl {what} failed ({}): {}", output.status, said.trim())))
}

/// Makes a directory with a new key, a request for its certificate, and the files that it needs to issue others.
pub(super) fn prepare(area: &Area, request: &Request<'_>) -> Result<PathBuf, Error> {
    let subject = request.subject()?;
    let number = area.next.fetch_add(1, Ordering::Relaxed);
    let dir = area.scratch.data().join(number.to_string());
    for path in [&dir, &dir.join("issued")] {
        DirBuilder::new().mode(0o700).create(path).map_err(Error::on("create", path))?;
    }
    create(&dir.join("openssl.cnf"), CONFIGURATION.as_bytes(), 0o600)?;
    create(&dir.join("extensions.cnf"), request.extensions.as_bytes(), 0o600)?;
    create(&dir.join("index"), b"", 0o600)?;
    create(&dir.join("crlnumber"), b"01\n", 0o600)?;
    // The file is made private before the command writes to it.
    create(&dir.join("key.pem"), b"", 0o600)?;
    run(&dir, &[&["genpkey", "-out", "key.pem"], request.key.options()].concat())?;
    run(
        &dir,
        &["req", "-new", "-utf8", "-subj", &subject, "-key", "key.pem", "-out", "request.pem"],
    )?;
    Ok(dir)
}

/// Signs the request in `dir` with the key in `issuer`.
pub(super) fn sign(
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
    let given = ["-extfile", text(&extensions)?];
    let arguments = [
        &["ca", "-batch", "-notext", "-utf8", "-rand_serial", "-startdate", begin][..],
        &["-enddate", end, "-in", text(&from)?, "-out", text(&to)?],
        if request.extensions.is_empty() { &[] } else { &given },
        signature,
        more,
    ];
    run(issuer, &arguments.concat())
}

pub(super) fn text(path: &Path) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| Error::new(format!("{} is not UTF-8", path.display())))
}
