//! The program as a process, and a server for it.

#![allow(dead_code, reason = "every test binary takes what it needs")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;

use pgbell_testkit::{Auth, Cluster};

/// The server of all tests of one binary. If none is installed, the tests fail with a text that says how to install one.
pub(crate) fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let started = Cluster::builder().auth(Auth::ScramSha256).start();
        started.unwrap_or_else(|error| panic!("{error}"))
    })
}

/// The program, without the environment variables that choose a server.
pub(crate) fn pgbell() -> Command {
    without_server(Command::new(env!("CARGO_BIN_EXE_pgbell")))
}

/// Removes the environment variables that choose a server from a command.
pub(crate) fn without_server(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") && !name.to_string_lossy().starts_with("PGBELL")
        {
            command.env_remove(name);
        }
    }
    command.env_remove("DATABASE_URL").stdin(Stdio::null());
    command
}

/// The program with the superuser's URL of the cluster in `DATABASE_URL`.
pub(crate) fn connected() -> Command {
    let mut command = pgbell();
    command.env("DATABASE_URL", cluster().url_for_superuser());
    command
}

/// Runs to the end: exit code, stdout, stderr.
pub(crate) fn run(command: &mut Command) -> (i32, String, String) {
    ended(&command.output().unwrap())
}

/// Runs to the end with this input on stdin.
pub(crate) fn run_with_input(command: &mut Command, input: &[u8]) -> (i32, String, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A program that refuses its input closes it early.
        scope.spawn(move || drop(stdin.write_all(input)));
        ended(&child.wait_with_output().unwrap())
    })
}

fn ended(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    // A program that is ended by a signal has no code.
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Sends notifications by the program itself: one for each line.
pub(crate) fn notify(channel: &str, lines: &str) {
    let ended = run_with_input(connected().args(["notify", channel, "-"]), lines.as_bytes());
    assert_eq!(ended, (0, String::new(), String::new()));
}

/// A running program.
pub(crate) struct Running {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: BufReader<ChildStderr>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::of(command.spawn().unwrap())
    }

    /// Its stderr must be a pipe.
    pub(crate) fn of(mut child: Child) -> Self {
        let stdout = child.stdout.take().map(BufReader::new);
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// A `pgbell listen` whose channels are active.
    pub(crate) fn listening(command: &mut Command) -> Self {
        let mut running = Self::start(command);
        let line = running.error_line();
        assert!(line.starts_with("listening to "), "{line}");
        running
    }

    pub(crate) fn line(&mut self) -> String {
        line(self.stdout.as_mut().unwrap())
    }

    pub(crate) fn error_line(&mut self) -> String {
        line(&mut self.stderr)
    }

    /// Closes the reader of its stdout.
    pub(crate) fn close_stdout(&mut self) {
        self.stdout = None;
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end: exit code, the rest of stdout, the rest of stderr.
    pub(crate) fn end(mut self) -> (i32, String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        let stdout = self.stdout.take();
        std::thread::scope(|scope| {
            scope.spawn(|| stdout.map(|mut stdout| stdout.read_to_string(&mut out).unwrap()));
            self.stderr.read_to_string(&mut err).unwrap();
        });
        (self.child.wait().unwrap().code().unwrap_or(-1), out, err)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Otherwise a failed test leaves the program running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line(input: &mut impl BufRead) -> String {
    let mut line = String::new();
    input.read_line(&mut line).unwrap();
    line.trim_end_matches('\n').to_owned()
}

/// Whether a process has this path among its arguments.
pub(crate) fn in_use(path: &Path) -> bool {
    let path = path.to_str().unwrap().as_bytes();
    std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
        let arguments = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        arguments.windows(path.len()).any(|window| window == path)
    })
}

/// A directory that is removed with the value.
pub(crate) struct ScratchDir(PathBuf);

impl ScratchDir {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pgbell-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
