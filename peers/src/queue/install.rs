//! A server with pgmq. Its SQL is in a package of crates.io, which is fetched and never built: `testkit/pgmq`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pgbell::Connection;
use pgbell_testkit::{Auth, Cluster};
use serde::Deserialize;

use super::queue;
use crate::outcome::Outcome;
use crate::publishing::conninfo;

/// The manifest whose dependencies contain the SQL.
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testkit/pgmq/Cargo.toml");

/// The part of the answer of `cargo metadata` that is used.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    manifest_path: PathBuf,
}

/// Starts a server with the newest pgmq of the lock file, and the queue. It has no autovacuum, as in all scenarios.
pub(super) fn server() -> Outcome<Cluster> {
    let sql = sql()?;
    let builder = Cluster::builder().auth(Auth::Trust).setting("autovacuum", "off");
    let server = builder.setting("max_wal_size", "4GB").start()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut session = Connection::connect(&*conninfo(server.port(), "install")).await?;
        session.simple_query(&sql).await?;
        queue()?.create(&mut session).await?;
        session.close().await;
        Ok(server)
    })
}

/// Reads the SQL of pgmq.
fn sql() -> Outcome<String> {
    cargo(&["fetch"])?;
    let metadata: Metadata =
        serde_json::from_str(&cargo(&["metadata", "--offline", "--format-version", "1"])?)?;
    let newest =
        newest(&metadata.packages).ok_or("pgmq is not in the lock file of testkit/pgmq")?;
    let directory = newest.manifest_path.parent().unwrap_or(Path::new("."));
    let path = directory.join("src/install/embedded/sql/pgmq.sql");
    Ok(fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?)
}

/// Returns the package of pgmq with the highest version.
fn newest(packages: &[Package]) -> Option<&Package> {
    let numbers = |one: &&Package| {
        let core = one.version.split('-').next().unwrap_or_default();
        core.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u64>>()
    };
    packages.iter().filter(|one| one.name == "pgmq").max_by_key(numbers)
}

fn cargo(arguments: &[&str]) -> Outcome<String> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).args(["--locked", "--quiet", "--manifest-path", MANIFEST]);
    let output = command.output()?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cargo {}: {why}", arguments.join(" ")).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::{Package, newest};

    #[test]
    fn the_newest_package_is_found_by_the_numbers_of_its_version() {
        let package = |name: &str, version: &str| Package {
            name: name.to_owned(),
            version: version.to_owned(),
            manifest_path: "/Cargo.toml".into(),
        };
        let all = [
            package("pgmq", "0.9.0"),
            package("pgmq", "0.34.0-alpha.7"),
            package("pgmq", "0.33.0"),
            package("tokio", "1.0.0"),
        ];
        assert_eq!(newest(&all).unwrap().version, "0.34.0-alpha.7");
        assert!(newest(&all[3..]).is_none());
    }
}
