//! What libpq does where we were told to be careful: psql, where it is installed.

use std::process::{Command, Stdio};

/// Whether psql gets in. `None` where there is no psql.
pub(crate) fn psql_gets_in(url: &str) -> Option<bool> {
    let mut psql = Command::new("psql");
    // No authorities and no passwords of the user's own.
    psql.env_clear().env("PATH", std::env::var_os("PATH")?).env("HOME", "/nonexistent");
    psql.env("PGGSSENCMODE", "disable").env("PGCONNECT_TIMEOUT", "20");
    psql.args(["-X", "-q", "-t", "-A", "-c", "SELECT 1", url]).stdin(Stdio::null());
    let output = psql.output().ok()?;
    Some(output.status.success())
}
