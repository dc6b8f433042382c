//! Cargo, started by a test.

use std::env;
use std::process::Command;

/// Runs or builds an example, which connects to `url`. Returns what it prints.
pub(crate) fn cargo_example(command: &str, example: &str, url: &str) -> String {
    let output = cargo()
        .args([command, "--quiet", "--locked", "--offline", "--all-features", "--example", example])
        .env("DATABASE_URL", url)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Returns cargo, in the directory of the package.
///
/// Cargo sets variables for this test that are inputs of some build scripts. With them, cargo would build those dependencies again, and once more
/// after the test.
fn cargo() -> Command {
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

/// Returns the manifests of the packages that a package of this repository depends on. They were fetched before.
#[allow(dead_code, reason = "only the tests on real servers need it")]
pub(crate) fn fetched_manifests(package: &str) -> Vec<String> {
    let manifest = format!("{package}/Cargo.toml");
    let output = cargo()
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .args(["--manifest-path", &manifest])
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let hint = format!("run `cargo fetch --locked --manifest-path {manifest}` first");
    assert!(output.status.success(), "{hint}\n{}", text(&output.stderr));
    let strings = text(&output.stdout);
    strings.split('"').filter(|one| one.ends_with("/Cargo.toml")).map(str::to_owned).collect()
}
