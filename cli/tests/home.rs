//! A home directory that the program cannot enter: a service that runs as another user often has that of root.
//!
//! When root runs the tests, the program runs as `nobody`. Other users cannot change the account: for them the directory
//! has mode 0000, which keeps its owner out.
#![cfg(target_os = "linux")]
#![expect(clippy::print_stderr, reason = "a test names what it leaves out")]

mod common;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{run, without_server};
use pgbell_testkit::{Auth, Certificates, Cluster, Leaf};

/// An account that has no rights.
const NOBODY: u32 = 65_534;

/// An id without an account, as containers have it.
const NO_ACCOUNT: u32 = 3_999_999_999;

/// Every file that is searched for in the home directory. Their contents would be refused.
const DEFAULT_FILES: [&str; 6] = [
    ".pgpass",
    ".pg_service.conf",
    ".postgresql/root.crt",
    ".postgresql/root.crl",
    ".postgresql/postgresql.crt",
    ".postgresql/postgresql.key",
];

/// Returns whether this process can become another user.
fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A directory that every user may enter, with a copy of the program and a home directory that the program cannot enter.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let place = Self(PathBuf::from(format!("/tmp/pgbell-{name}-{}", std::process::id())));
        fs::create_dir(&place.0).unwrap();
        fs::set_permissions(&place.0, PermissionsExt::from_mode(0o755)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_pgbell"), place.program()).unwrap();
        for file in DEFAULT_FILES {
            let path = place.home().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "not what is expected").unwrap();
        }
        let mode = if is_root() { 0o700 } else { 0 };
        fs::set_permissions(place.home(), PermissionsExt::from_mode(mode)).unwrap();
        place
    }

    fn program(&self) -> PathBuf {
        self.0.join("pgbell")
    }

    fn home(&self) -> PathBuf {
        self.0.join("home")
    }

    /// Writes a file that every user may read.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        path
    }

    /// A program that runs as another user if that is possible, with this home directory.
    fn command(&self, program: &Path) -> Command {
        let mut command = without_server(Command::new(program));
        command.current_dir("/").env("HOME", self.home()).env_remove("USER").env_remove("LOGNAME");
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Sends a notification: exit code and stderr.
    fn notify(&self, url: &str, variables: &[(&str, &str)]) -> (i32, String) {
        let mut command = self.command(&self.program());
        command.envs(variables.iter().copied());
        notify(&mut command, url)
    }

    /// Returns the error that psql prints, which is empty if it has connected. `None` if psql is not installed.
    fn psql(&self, url: &str, variables: &[(&str, &str)]) -> Option<String> {
        let mut command = self.command(Path::new("psql"));
        command.envs(variables.iter().copied()).args(["-X", "-w", "-c", "SELECT 1", url]);
        match command.output() {
            Ok(output) => {
                let error = String::from_utf8_lossy(&output.stderr).into_owned();
                assert_eq!(output.status.success(), error.is_empty(), "{error}");
                Some(error)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("psql is not installed: nothing is compared with it");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Otherwise its owner could not remove it.
        let _ = fs::set_permissions(self.home(), PermissionsExt::from_mode(0o700));
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Sends a notification: exit code and stderr.
fn notify(command: &mut Command, url: &str) -> (i32, String) {
    let (code, out, err) = run(command.env("DATABASE_URL", url).args(["notify", "c", "x"]));
    assert_eq!(out, "");
    (code, err)
}

/// Returns the name of an account, by default that of this process.
fn account(id: Option<u32>) -> String {
    let output = Command::new("id").arg("-un").args(id.map(|id| id.to_string())).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn default_files_in_a_home_directory_that_cannot_be_entered_are_passed_over() {
    let place = Place::new("home");
    let certificates = Certificates::new().unwrap();
    let authority = certificates.authority("pgbell test authority").unwrap();
    let leaf = Leaf::server("localhost").ip_address([127, 0, 0, 1]);
    let cluster = Cluster::builder()
        .auth(Auth::ScramSha256)
        .tls(&authority.issue(&leaf).unwrap())
        .start()
        .unwrap();
    let url = cluster.url_for_superuser();
    let root = place.file("root.crt", authority.certificate().pem());
    let root = root.display();
    place.file("pg_service.conf", "[shop]\napplication_name=shop\n");
    let variables = [("PGSYSCONFDIR", place.0.to_str().unwrap())];
    for parameters in [
        "sslmode=allow".to_owned(),
        "sslmode=prefer".to_owned(),
        "sslmode=require".to_owned(),
        format!("sslmode=verify-full&sslrootcert={root}"),
        "sslmode=require&service=shop".to_owned(),
    ] {
        let url = format!("{url}?{parameters}");
        assert_eq!(place.notify(&url, &variables), (0, String::new()), "{parameters}");
        // libpq fails if it cannot reach the default certificate of the client, so another one is given.
        let psql = place.psql(&format!("{url}&sslcert=/nonexistent"), &variables);
        assert_eq!(psql.unwrap_or_default(), "", "{parameters}");
    }
    // Without the file the server's certificate cannot be checked.
    let path = place.home().join(".postgresql/root.crt").display().to_string();
    let url = format!("{url}?sslmode=verify-full");
    let (code, error) = place.notify(&url, &variables);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains(&path) && error.contains("cannot enter"), "{error}");
    assert!(place.psql(&url, &variables).is_none_or(|error| error.contains(&path)));
}

#[test]
fn without_a_user_the_account_of_the_program_logs_in_whatever_user_says() {
    let place = Place::new("account");
    let name = account(is_root().then_some(NOBODY));
    let mut cluster = Cluster::builder().auth(Auth::Trust);
    if name != "postgres" {
        cluster = cluster.init_sql(format!("CREATE ROLE \"{name}\" LOGIN;"));
    }
    let cluster = cluster.start().unwrap();
    let url = format!("postgres://127.0.0.1:{}/postgres?sslmode=disable", cluster.port());
    // There is no role eve.
    for user in [None, Some("eve")] {
        let variables: Vec<_> =
            user.iter().flat_map(|user| ["USER", "LOGNAME"].map(|name| (name, *user))).collect();
        assert_eq!(place.notify(&url, &variables), (0, String::new()), "{user:?}");
        assert_eq!(place.psql(&url, &variables).unwrap_or_default(), "", "{user:?}");
    }
    if !is_root() {
        eprintln!(
            "only root can run the program with an id without an account: this is not tested"
        );
        return;
    }
    // libpq fails here.
    let program = || {
        let mut command = place.command(&place.program());
        command.uid(NO_ACCOUNT).gid(NO_ACCOUNT);
        command
    };
    assert_eq!(notify(program().env("USER", &name), &url), (0, String::new()));
    let (code, error) = notify(&mut program(), &url);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("this process has no account"), "{error}");
}
