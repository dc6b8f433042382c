//! Cargo, started by a test.

use std::env;
use std::process::Command;

/// Returns cargo, in the directory of the package.
///
/// Cargo sets variables for this test that are inputs of some build scripts. With them, cargo would build those dependencies again, and once more
/// after the test.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    for (name, _) in env::vars_os() {
        let is_of_this_test =
            |prefix| name.to_str().is_some_and(|name: &str| name.starts_with(prefix));
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"]
            .into_iter()
            .any(is_of_this_test)
        {
            cargo.env_remove(&name);
        }
    }
    cargo
}
