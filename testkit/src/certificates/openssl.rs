//! The `openssl` command. No crate makes all that tests need: RSA keys, and signatures with SHA-1 or RSA-PSS.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Error, NotFound};

/// `PGBELL_OPENSSL`, else `openssl` on `PATH`.
fn program() -> OsString {
    env::var_os("PGBELL_OPENSSL").filter(|path| !path.is_empty()).unwrap_or("openssl".into())
}

/// Runs the command in a directory that holds its configuration, `openssl.cnf`. The system's is not read.
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
