//! The result of psql for the same server, for comparison, if psql is installed.

use std::process::{Command, Stdio};

/// Returns whether psql can log in. `None` if psql is not installed.
pub(crate) fn psql_gets_in(url: &str) -> Option<bool> {
    let mut psql = Command::new("psql");
    // Without authorities and passwords of the user that runs the tests.
    psql.env_clear().env("PATH", std::env::var_os("PATH")?).env("HOME", "/nonexistent");
    psql.env("PGGSSENCMODE", "disable").env("PGCONNECT_TIMEOUT", "20");
    psql.args(["-X", "-q", "-t", "-A", "-c", "SELECT 1", url]).stdin(Stdio::null());
    let output = psql.output().ok()?;
    Some(output.status.success())
}
