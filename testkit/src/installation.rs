//! The directory of a server's programs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::NotFound;
use crate::reach;
use crate::user::User;

/// Major versions of the matrix, oldest first.
pub const MAJORS: [u32; 6] = [13, 14, 15, 16, 17, 18];

/// Where `testkit/servers/fetch.sh` puts the matrix, relative to the packages of the repository. Only tests search there:
/// cargo gives them the directory of their package.
const FETCHED: [&str; 3] =
    ["servers/node_modules", "testkit/servers/node_modules", "../testkit/servers/node_modules"];

/// Debian and Ubuntu: one directory for each major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// A directory with `postgres` and `initdb`, and their version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Installation {
    bin: PathBuf,
    major: u32,
    version: String,
}

impl Installation {
    /// Finds the installation that tests use if they do not name one.
    ///
    /// The first of: `PGBELL_POSTGRES` (a directory with the programs, or the one above its `bin`), `postgres`
    /// on `PATH`, `pg_config --bindir`, the highest version under `/usr/lib/postgresql`, the highest in
    /// `PGBELL_MATRIX_DIR`. The programs run as the user that the server will run as, also to get their version.
    ///
    /// # Errors
    /// [`NotFound`] if there is none, or if `PGBELL_POSTGRES` is set to something else.
    pub fn find() -> Result<Self, NotFound> {
        if let Some(dir) = env::var_os("PGBELL_POSTGRES").filter(|dir| !dir.is_empty()) {
            return Self::at(dir);
        }
        on_path()
            .or_else(by_pg_config)
            .or_else(|| highest(by_debian(Path::new(DEBIAN))))
            .or_else(|| highest(matrix_in(&named_matrix())))
            .ok_or_else(|| {
                NotFound::server(
                    "no PostgreSQL server on PATH, by pg_config or in /usr/lib/postgresql",
                )
            })
    }

    /// Finds one installation of each of [`MAJORS`], oldest first: the real servers that are fetched from npm.
    ///
    /// They are searched for in `PGBELL_MATRIX_DIR` (`<dir>/pg13/native/bin` and so on), else, in a test of this repository that
    /// cargo runs (`CARGO_MANIFEST_DIR`), where `testkit/servers/fetch.sh` puts them.
    ///
    /// # Errors
    /// [`NotFound`] if any of them is missing: it names them and says how to install them.
    pub fn matrix() -> Result<Vec<Self>, NotFound> {
        let dirs = match named_matrix() {
            named if named.is_empty() => fetched_matrix(),
            named => named,
        };
        let found = matrix_in(&dirs);
        let missing: Vec<String> = MAJORS
            .iter()
            .filter(|major| !found.iter().any(|one| one.major == **major))
            .map(ToString::to_string)
            .collect();
        if missing.is_empty() {
            return Ok(found);
        }
        let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        let place = match dirs.is_empty() {
            true => "where nothing names it: PGBELL_MATRIX_DIR is not set".to_owned(),
            false => dirs.join(", "),
        };
        let missing = missing.join(", ");
        Err(NotFound::matrix(format!("PostgreSQL {missing} of the matrix not found in {place}")))
    }

    /// Returns the installation in a directory that has `postgres` and `initdb`, or whose `bin` has them.
    ///
    /// # Errors
    /// [`NotFound`] if the programs do not exist or do not print their version.
    pub fn at(dir: impl AsRef<Path>) -> Result<Self, NotFound> {
        let dir = dir.as_ref();
        [dir.to_owned(), dir.join("bin"), dir.join("native/bin")]
            .iter()
            .find_map(|bin| Self::in_bin(bin))
            .ok_or_else(|| {
                NotFound::server(format!("no usable `postgres` and `initdb` in {}", dir.display()))
            })
    }

    /// Returns the directory of `postgres` and `initdb`, absolute and without symbolic links.
    #[must_use]
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Returns the major version, such as 15.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Returns what `postgres --version` prints after the product's name, such as `15.18 (Debian 15.18-0+deb12u1)`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    fn in_bin(bin: &Path) -> Option<Self> {
        // Links are followed first: `postgres` finds its files relative to its real directory.
        let postgres = fs::canonicalize(bin.join("postgres")).ok()?;
        let bin = postgres.parent()?.to_owned();
        if !bin.join("initdb").is_file() {
            return None;
        }
        let user = User::detect().ok()?;
        // Never as root: the program is unknown until it has printed its version.
        let (major, version) = reach::programs(&bin, &user).ok().and_then(|bin| {
            let said = user.command(bin.join("postgres")).arg("--version").output();
            parse_version(&String::from_utf8(said.ok()?.stdout).ok()?)
        })?;
        Some(Self { bin, major, version })
    }
}

/// `postgres (PostgreSQL) 15.18 (Debian …)`; also `19devel`, `18beta1`.
fn parse_version(said: &str) -> Option<(u32, String)> {
    let version = said.trim().strip_prefix("postgres (PostgreSQL) ")?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    Some((version.get(..digits)?.parse().ok()?, version.to_owned()))
}

fn on_path() -> Option<Installation> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).find_map(|dir| Installation::in_bin(&dir))
}

fn by_pg_config() -> Option<Installation> {
    let said = User::detect().ok()?.command("pg_config").arg("--bindir").output().ok()?;
    Installation::in_bin(Path::new(String::from_utf8(said.stdout).ok()?.trim()))
}

fn by_debian(root: &Path) -> Vec<Installation> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    entries.flatten().filter_map(|entry| Installation::in_bin(&entry.path().join("bin"))).collect()
}

fn highest(found: Vec<Installation>) -> Option<Installation> {
    found.into_iter().max_by_key(|one| one.major)
}

/// The directory that the user names.
fn named_matrix() -> Vec<PathBuf> {
    let named = env::var_os("PGBELL_MATRIX_DIR").filter(|dir| !dir.is_empty());
    named.into_iter().map(PathBuf::from).collect()
}

/// Returns the directories of the matrix for tests that cargo runs.
fn fetched_matrix() -> Vec<PathBuf> {
    let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let dirs = package.iter().flat_map(|package| FETCHED.map(|dir| package.join(dir)));
    dirs.filter(|dir| dir.is_dir()).collect()
}

/// Returns the existing installations of the matrix, oldest first. A directory with a server of another major is ignored.
fn matrix_in(dirs: &[PathBuf]) -> Vec<Installation> {
    let one = |major: u32| {
        dirs.iter()
            .flat_map(|dir| {
                [dir.join(format!("pg{major}")), dir.join(format!("node_modules/pg{major}"))]
            })
            .find_map(|dir| Installation::at(dir).ok())
            .filter(|found| found.major == major)
    };
    MAJORS.iter().filter_map(|major| one(*major)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_releases_and_of_development_are_read() {
        let check = |said: &str, expect: Option<(u32, &str)>| {
            let found = parse_version(said);
            assert_eq!(
                found.as_ref().map(|(major, text)| (*major, text.as_str())),
                expect,
                "{said:?}"
            );
        };
        check("postgres (PostgreSQL) 13.23\n", Some((13, "13.23")));
        check(
            "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n",
            Some((15, "15.18 (Debian 15.18-0+deb12u1)")),
        );
        check("postgres (PostgreSQL) 19devel\n", Some((19, "19devel")));
        check("postgres (EnterpriseDB) 15.1\n", None);
        check("postgres (PostgreSQL) x\n", None);
        check("", None);
    }

    #[test]
    fn a_directory_without_a_server_says_how_to_get_one() {
        let error = Installation::at("/nonexistent").unwrap_err().to_string();
        assert!(error.starts_with("no usable `postgres` and `initdb` in /nonexistent"), "{error}");
        assert!(error.contains("apt-get install postgresql"), "{error}");
        assert!(error.contains("testkit/servers/fetch.sh"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }

    #[test]
    fn an_empty_matrix_finds_nothing() {
        assert_eq!(matrix_in(&[PathBuf::from("/nonexistent")]), Vec::new());
    }
}
