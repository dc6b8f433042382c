//! However a process with a cluster ends, its server ends and its directory is removed.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::until;
use pgbell_testkit::Installation;

/// A process that has a cluster until its input ends.
struct Holder {
    child: Child,
    port: u16,
    data: PathBuf,
    postmaster: String,
}

fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_pgbell-testkit"));
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
    program
}

impl Holder {
    fn start(program: &mut Command) -> Self {
        let mut child = program.spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let (_, place) = url.rsplit_once(':').expect("no URL: see standard error for the reason");
        let port = place.split_once('/').unwrap().0.parse().unwrap();
        // The directory in which the program creates its first cluster.
        let temporary = program.get_envs().find(|(name, _)| *name == "TMPDIR");
        let temporary = temporary.and_then(|(_, dir)| dir).map(PathBuf::from);
        let temporary = fs::canonicalize(temporary.unwrap_or(std::env::temp_dir())).unwrap();
        let data = temporary.join(format!("pgbell-{}-0/data", child.id()));
        let lock = fs::read_to_string(data.join("postmaster.pid")).unwrap();
        let postmaster = lock.lines().next().unwrap().to_owned();
        Self { child, port, data, postmaster }
    }

    fn assert_removed(mut self) {
        self.child.wait().unwrap();
        let dir = self.data.parent().unwrap();
        until("the directory is gone", || !dir.exists());
        until("the postmaster is gone", || !is_running(&self.postmaster));
        assert!(TcpStream::connect(("127.0.0.1", self.port)).is_err());
        assert_eq!(mentioned(dir), Vec::<String>::new());
    }
}

/// Returns whether a process exists and has not ended.
fn is_running(pid: &str) -> bool {
    let shown = Command::new("ps").args(["-o", "stat=", "-p", pid]).output().unwrap();
    let state = String::from_utf8(shown.stdout).unwrap();
    !state.trim().is_empty() && !state.trim().starts_with('Z')
}

/// Returns the commands of all processes that name the directory.
fn mentioned(dir: &Path) -> Vec<String> {
    let shown = Command::new("ps").args(["-A", "-o", "args="]).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let dir = dir.to_str().unwrap();
    shown.lines().filter(|line| line.contains(dir)).map(str::to_owned).collect()
}

#[test]
fn the_end_of_its_input_ends_the_server() {
    let mut holder = Holder::start(&mut program());
    drop(holder.child.stdin.take());
    assert!(holder.child.wait().unwrap().success());
    assert!(!holder.data.exists());
    holder.assert_removed();
}

#[test]
fn a_killed_process_leaves_neither_server_nor_directory() {
    let mut holder = Holder::start(&mut program());
    holder.child.kill().unwrap();
    holder.assert_removed();
}

#[test]
fn a_killed_process_group_leaves_neither_server_nor_directory() {
    let holder = Holder::start(&mut program());
    let kill = format!("kill -s KILL -- -{}", holder.child.id());
    assert!(Command::new("/bin/sh").args(["-c", &kill]).status().unwrap().success());
    holder.assert_removed();
}

#[test]
fn a_process_killed_while_it_makes_the_cluster_leaves_no_files() {
    let mut child = program().spawn().unwrap();
    let dir = fs::canonicalize(std::env::temp_dir()).unwrap();
    let dir = dir.join(format!("pgbell-{}-0", child.id()));
    until("initdb runs", || dir.join("data/global").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    until("the directory is gone", || !dir.exists());
    until("initdb is gone", || mentioned(&dir).is_empty());
    assert!(!dir.exists());
}

#[test]
fn the_error_for_a_missing_server_names_the_package_to_install() {
    let output = program().env("PGBELL_POSTGRES", "/nonexistent").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8(output.stderr).unwrap();
    assert!(printed.contains("no usable `postgres` and `initdb` in /nonexistent"), "{printed}");
    assert!(printed.contains("apt-get install postgresql"), "{printed}");
    assert_eq!(printed.lines().count(), 1, "{printed}");
}

#[test]
fn an_installation_that_the_servers_user_cannot_read_is_copied_once() {
    let matrix = Installation::matrix().unwrap_or_else(|error| panic!("{error}"));
    let prefix = matrix[0].bin().parent().unwrap();
    let area = std::env::temp_dir().join(format!("pgbell-closed-{}", std::process::id()));
    fs::DirBuilder::new().mode(0o755).create(&area).unwrap();
    let closed = area.join("closed");
    fs::DirBuilder::new().mode(0o700).create(&closed).unwrap();
    let mut copy = Command::new("cp");
    assert!(copy.arg("-R").arg(prefix).arg(&closed).status().unwrap().success());

    let root = fs::metadata(&area).unwrap().uid() == 0;
    let cache = area.join("pgbell-servers-0");
    let mut copies = Vec::new();
    for _ in 0..2 {
        let mut program = program();
        program.env("PGBELL_POSTGRES", closed.join(prefix.file_name().unwrap()));
        let holder = Holder::start(program.env("TMPDIR", &area));
        assert!(holder.data.starts_with(fs::canonicalize(&area).unwrap()));
        let major = fs::read_to_string(holder.data.join("PG_VERSION")).unwrap();
        assert_eq!(major.trim(), matrix[0].major().to_string());
        if root {
            let copy = fs::read_dir(&cache).unwrap().map(Result::unwrap).collect::<Vec<_>>();
            assert_eq!(copy.len(), 1);
            let found = copy[0].metadata().unwrap();
            assert_eq!((found.uid(), found.permissions().mode() & 0o777), (0, 0o750));
            copies.push(found.ino());
        } else {
            // Without root the server runs as the user of the test, and can read the files of that user.
            assert!(!cache.exists());
        }
        let mut holder = holder;
        drop(holder.child.stdin.take());
        holder.assert_removed();
    }
    assert!(copies.windows(2).all(|pair| pair[0] == pair[1]), "copied twice");
    fs::remove_dir_all(&area).unwrap();
}
