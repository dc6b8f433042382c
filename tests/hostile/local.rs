//! Unix sockets on which another user of the machine listens. If root runs the tests, the fake server runs as `nobody`. Other
//! users cannot change the account: for them the tests check that a server of the same account is trusted.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use pgbell::testing::{Auth, BackendConfig, Server};
use pgbell::{Config, Connection, Error, ErrorKind, Event, Listener};
use tokio::net::TcpListener;

use super::attack::runtime;
use super::client::{PASSWORD, check_text, soon};

/// The directory in which servers usually create their sockets.
const SOCKET_DIRECTORY: &str = "/var/run/postgresql";

/// An account that has no rights and is neither root nor `postgres`.
const NOBODY: u32 = 65_534;

/// Listens on the socket `$1` and forwards all bytes to the port `$2` and back. Prints what clients wrote, in hexadecimal
/// digits, and an empty line when a client has disconnected.
const RELAY: &str = r#"
import socket, sys, threading
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print("ready", flush=True)
def carry(source, target, shown):
    try:
        while data := source.recv(65536):
            if shown:
                print(data.hex(), flush=True)
            target.sendall(data)
    except OSError:
        pass
    try:
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    if shown:
        print(flush=True)
while True:
    client, _ = server.accept()
    real = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    threading.Thread(target=carry, args=(client, real, True), daemon=True).start()
    threading.Thread(target=carry, args=(real, client, False), daemon=True).start()
"#;

/// Returns whether this process can become another user. Prints a message if it cannot.
#[expect(clippy::print_stderr, reason = "a skipped test prints why")]
fn is_root() -> bool {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        eprintln!("skipped: only root can run a server as another user");
    }
    is_root
}

/// A directory like `/tmp`: every user may create a socket in it.
struct Shared(PathBuf);

impl Shared {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/tmp/pgbell-shared-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o1777)).unwrap();
        Self(path)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server of another account on a Unix socket: a relay in front of a backend of this process.
struct Fake {
    child: Child,
    socket: PathBuf,
    received: Receiver<String>,
}

impl Fake {
    /// Starts it as `uid`, or under the account of this process.
    fn start(directory: &Path, port: u16, uid: Option<u32>, backend: u16) -> Self {
        let socket = directory.join(format!(".s.PGSQL.{port}"));
        let mut command = Command::new("python3");
        command.args(["-c", RELAY]).arg(&socket).arg(backend.to_string());
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped());
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert_eq!(lines.next().as_deref(), Some("ready"));
        let (send, received) = channel();
        std::thread::spawn(move || lines.all(|line| send.send(line).is_ok()));
        Self { child, socket, received }
    }

    /// The bytes that one client wrote, returned when it has disconnected.
    fn received(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let line =
                self.received.recv_timeout(Duration::from_secs(20)).expect("no client ended");
            if line.is_empty() {
                return bytes;
            }
            let digits = line.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
            bytes.extend(digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()));
        }
    }

    fn received_the_password(&self) -> bool {
        let received = self.received();
        assert!(!received.is_empty());
        received.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes())
    }

    fn received_nothing(&self) -> bool {
        self.received.try_recv().is_err()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.socket);
    }
}

async fn backend(auth: Auth) -> Server {
    let config = BackendConfig::new().auth(auth).user("alice", PASSWORD).scram_iterations(4_096);
    Server::start(config).await.unwrap()
}

fn config(directory: &Path, port: u16, more: &str) -> Config {
    let directory = directory.display();
    format!("host={directory} port={port} user=alice password={PASSWORD} {more}").parse().unwrap()
}

async fn connect(config: Config) -> Result<(), Error> {
    let connection = soon("connect", Connection::connect(config)).await?;
    soon("close", connection.close()).await;
    Ok(())
}

/// The comparison: what libpq does.
async fn psql(directory: Option<&Path>, port: u16, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new("psql");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(variables.iter().copied()).env("PGPASSWORD", PASSWORD).env("HOME", "/nonexistent");
    let directory = directory.map_or(OsStr::new(""), Path::as_os_str);
    command.env("PGHOST", directory).args(["-X", "-w", "-U", "alice", "-p", &port.to_string()]);
    command.args(["-c", "", "postgres"]).stdin(Stdio::null());
    // The backend runs in this thread.
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = soon("psql", output).await.unwrap();
    assert!(!output.stderr.windows(PASSWORD.len()).any(|text| text == PASSWORD.as_bytes()));
    output
}

/// libpq sends the password, unless requirepeer forbids it.
#[test]
fn a_server_of_another_account_on_a_unix_socket_does_not_get_the_password_in_clear() {
    runtime().block_on(async {
        let shared = Shared::new();
        let server = backend(Auth::Password).await;
        let (ours, other) = (Fake::start(&shared.0, 1, None, server.port()), 2);
        connect(config(&shared.0, 1, "")).await.unwrap();
        assert!(ours.received_the_password());
        if !is_root() {
            return;
        }

        let fake = Fake::start(&shared.0, other, Some(NOBODY), server.port());
        let error = connect(config(&shared.0, other, "")).await.unwrap_err();
        check_text(&error);
        assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
        let text = format!("{error:#}");
        assert!(text.contains("account number 65534, which is neither root"), "{text}");
        assert!(text.contains("requirepeer") && text.contains("require_auth=password"), "{text}");
        assert!(!fake.received_the_password());

        // The user names the account of the server, or allows the method explicitly.
        for allowed in ["requirepeer=65534", "requirepeer=nobody", "require_auth=password"] {
            connect(config(&shared.0, other, allowed)).await.unwrap();
            assert!(fake.received_the_password(), "{allowed}");
        }
        // A `require_auth` that excludes MD5 does not name `password`, so the password is not sent in clear.
        let excluding = config(&shared.0, other, "require_auth=!md5");
        assert_eq!(connect(excluding).await.unwrap_err().kind(), ErrorKind::Auth);
        assert!(!fake.received_the_password());

        psql(Some(&shared.0), other, &[]).await;
        assert!(fake.received_the_password(), "libpq sends it to any account");
        let refused = psql(Some(&shared.0), other, &[("PGREQUIREPEER", "postgres")]).await;
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && text.contains("requirepeer"), "{text}");
        assert!(fake.received().is_empty());
    });
}

/// This is as over TCP without TLS: neither client sends the password.
#[test]
fn a_server_of_another_account_is_answered_if_the_method_does_not_send_the_password() {
    if !is_root() {
        return;
    }
    runtime().block_on(async {
        for auth in [Auth::Trust, Auth::Md5, Auth::ScramSha256] {
            let shared = Shared::new();
            let server = backend(auth).await;
            let fake = Fake::start(&shared.0, 1, Some(NOBODY), server.port());
            connect(config(&shared.0, 1, "")).await.unwrap();
            assert!(!fake.received_the_password(), "{auth:?}");
        }
    });
}

/// The server stops, and another user takes its place before it starts again.
#[test]
fn a_listener_that_reconnects_gives_a_server_of_another_account_no_password() {
    if !is_root() {
        return;
    }
    runtime().block_on(async {
        let shared = Shared::new();
        let server = backend(Auth::Password).await;
        let ours = Fake::start(&shared.0, 1, None, server.port());
        let builder = Listener::builder(config(&shared.0, 1, "")).channels(["a"]);
        let builder = builder.backoff(Duration::from_millis(5), Duration::from_millis(20));
        let mut listener = soon("the first session", builder.connect()).await.unwrap();
        drop(ours);
        let fake = Fake::start(&shared.0, 1, Some(NOBODY), server.port());
        let error = loop {
            match soon("the end", listener.recv()).await {
                Ok(Event::Gap(_)) => {}
                Ok(event) => panic!("{event:?}"),
                Err(error) => break error,
            }
        };
        check_text(&error);
        assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
        assert!(!fake.received_the_password());
    });
}

/// If no host is given there is one directory, as for libpq: neither the other directory nor TCP replaces it, where any user
/// could listen.
#[test]
fn the_default_server_is_one_socket_and_nothing_takes_its_place() {
    runtime().block_on(async {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let server = backend(Auth::Password).await;
        let is_root = is_root();
        let uid = is_root.then_some(NOBODY);
        let fake = Fake::start(Path::new("/tmp"), port, uid, server.port());
        let text = format!("port={port} user=alice password={PASSWORD} sslmode=disable");
        let result = connect(text.parse().unwrap()).await;
        if Path::new(SOCKET_DIRECTORY).is_dir() {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
            let place = format!("{SOCKET_DIRECTORY}/.s.PGSQL.{port}: ");
            assert!(format!("{error:#}").contains(&place), "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("host=localhost")), "{error}");
            assert!(fake.received_nothing());
        } else if is_root {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Auth);
            assert!(!fake.received_the_password());
        } else {
            result.unwrap();
        }
        let connection = tokio::time::timeout(Duration::from_millis(1), taken.accept()).await;
        assert!(connection.is_err(), "TCP takes the place of the socket");

        let refused = psql(None, port, &[]).await;
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        // libpq tries one directory, also if it was built with another one than that of pgbell.
        assert_eq!(text.matches(".s.PGSQL.").count(), 1, "{text}");
        let connection = tokio::time::timeout(Duration::from_millis(1), taken.accept()).await;
        assert!(connection.is_err(), "{text}");
    });
}
