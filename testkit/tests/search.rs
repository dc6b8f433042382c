//! The search for the programs of a server, and the user that runs them to find their version.

use std::fs::{self, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pgbell_testkit::{Installation, MAJORS};

/// A directory that every user can enter, removed when it is dropped.
struct Area(PathBuf);

impl Area {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("pgbell-{name}-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o755).create(&dir).unwrap();
        Self(dir)
    }

    /// Creates a program that records the id of the user that runs it.
    fn program(&self, name: &str, then: &str) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let record = self.0.join("users").display().to_string();
        fs::write(&path, format!("#!/bin/sh\nid -u >>'{record}'\n{then}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The program of the testkit, which does everything that a program with a temporary server does.
fn testkit() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_pgbell-testkit"));
    program.env_remove("PGBELL_POSTGRES").env_remove("PGBELL_MATRIX_DIR").stdin(Stdio::null());
    program
}

/// The directory in which a program was built may later belong to any user.
#[test]
fn the_program_does_not_contain_the_path_of_its_build_directory() {
    let program = fs::read(env!("CARGO_BIN_EXE_pgbell-testkit")).unwrap();
    let servers = concat!(env!("CARGO_MANIFEST_DIR"), "/servers");
    assert!(!program.windows(servers.len()).any(|bytes| bytes == servers.as_bytes()), "{servers}");
}

/// A program that was found is not trusted: `--version` may do anything.
#[test]
#[expect(clippy::print_stderr, reason = "a skipped test prints a message")]
fn root_does_not_run_a_program_to_find_its_version() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!("skipped: only root runs the server as another user");
        return;
    }
    let area = Area::new("search");
    let (bin, tools) = (area.0.join("bin"), area.0.join("tools"));
    area.program("bin/postgres", "echo 'postgres (PostgreSQL) 15.0'");
    area.program("bin/initdb", "exit 1");
    area.program("tools/pg_config", &format!("echo '{}'", bin.display()));
    let users = area.0.join("users");
    fs::write(&users, "").unwrap();
    fs::set_permissions(&users, Permissions::from_mode(0o666)).unwrap();

    let path = std::env::var("PATH").unwrap();
    let ways: [(&str, String); 3] = [
        ("PGBELL_POSTGRES", area.0.display().to_string()),
        ("PATH", format!("{}:{path}", bin.display())),
        // The directory with the program is first on this PATH.
        ("PATH", format!("{}:/usr/bin:/bin", tools.display())),
    ];
    for (name, value) in ways {
        let output = testkit().env(name, &value).output().unwrap();
        let printed = String::from_utf8(output.stderr).unwrap();
        let ran = fs::read_to_string(&users).unwrap();
        assert!(!ran.lines().any(|user| user == "0"), "{name}={value} as root: {ran:?} {printed}");
    }
    let ran = fs::read_to_string(&users).unwrap();
    assert!(ran.lines().count() >= 4, "the programs were not found: {ran:?}");
}

const INSIDE: &str = "PGBELL_TEST_INSIDE";

/// Returns a command that runs this test in another process with its own environment.
fn inside(test: &str) -> Command {
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", test, "--nocapture"]).env(INSIDE, "1").env_remove("CARGO_MANIFEST_DIR");
    again.env_remove("PGBELL_MATRIX_DIR");
    again
}

/// Cargo sets the package's directory when it runs tests; all other settings come from the user.
#[test]
fn the_matrix_is_found_only_where_a_setting_or_cargo_names_it() {
    if std::env::var_os(INSIDE).is_some() {
        let found = Installation::matrix().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(found.iter().map(Installation::major).collect::<Vec<_>>(), MAJORS);
        return;
    }
    let test = "the_matrix_is_found_only_where_a_setting_or_cargo_names_it";
    let output = inside(test).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "found without a setting");
    assert!(printed.contains("PGBELL_MATRIX_DIR is not set"), "{printed}");

    let matrix = Installation::matrix().unwrap_or_else(|error| panic!("{error}"));
    // `<matrix>/pg13/native/bin`
    let matrix: &Path = matrix[0].bin().ancestors().nth(3).unwrap();
    let area = Area::new("package");
    fs::create_dir(area.0.join("servers")).unwrap();
    symlink(matrix, area.0.join("servers/node_modules")).unwrap();
    for (name, value) in [("PGBELL_MATRIX_DIR", matrix), ("CARGO_MANIFEST_DIR", area.0.as_path())] {
        let output = inside(test).env(name, value).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
