//! A minimal client: enough of the protocol to log in without a password and to run one query.
#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pgbell_testkit::{Auth, Cluster, ClusterBuilder};

/// A cluster that asks for no password: the client of these tests supports none.
pub(crate) fn trusting() -> ClusterBuilder {
    Cluster::builder().auth(Auth::Trust)
}

/// Checks the rights of the testkit's role: it may read, over the socket.
pub(crate) fn own_role(cluster: &Cluster) {
    for user in ["pgbell_testkit", "pgbell_testkit\0replication\0true"] {
        let error = Session::open_as(cluster.port(), user).err().unwrap().to_string();
        assert!(error.contains("28000") && error.contains("rejects"), "{user:?}: {error}");
    }
    let dir = cluster.socket_dir().unwrap();
    let open = |user| Session::open_socket(dir, cluster.port(), user);
    let mut own = open("pgbell_testkit").unwrap();
    assert_eq!(own.ask("SHOW is_superuser").unwrap(), ["off"]);
    for sql in ["SELECT pg_reload_conf()", "CREATE ROLE another", "SELECT * FROM pg_authid"] {
        assert!(own.ask(sql).is_err(), "{sql}");
    }
    // It may stream if there is a standby, and not before.
    let streams = "SELECT rolreplication FROM pg_roles WHERE rolname = current_user";
    assert_eq!(own.ask(streams).unwrap(), ["f"]);
    assert!(open("pgbell_testkit\0replication\0true").is_err());
}

/// The connection of a session.
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// `openssl s_client`.
    Tls(Child),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(child) => child.stdout.as_mut().unwrap().read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buffer),
            Self::Unix(stream) => stream.write(buffer),
            Self::Tls(child) => child.stdin.as_mut().unwrap().write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
            Self::Tls(child) => child.stdin.as_mut().unwrap().flush(),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Self::Tls(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A session, by default of the superuser.
pub(crate) struct Session {
    stream: Stream,
    pub(crate) process_id: i32,
    pub(crate) auth: i32,
    /// Channels and payloads that arrived with answers.
    pub(crate) notifications: Vec<(String, String)>,
}

fn bad(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl Session {
    pub(crate) fn open(cluster: &Cluster) -> io::Result<Self> {
        assert_eq!(cluster.host(), "127.0.0.1");
        Self::open_at(cluster.port())
    }

    pub(crate) fn open_at(port: u16) -> io::Result<Self> {
        Self::open_as(port, "postgres")
    }

    pub(crate) fn open_as(port: u16, user: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Self::log_in(Stream::Tcp(stream), user)
    }

    /// Opens a session over the Unix socket in a directory.
    pub(crate) fn open_socket(dir: &Path, port: u16, user: &str) -> io::Result<Self> {
        let stream = UnixStream::connect(dir.join(format!(".s.PGSQL.{port}")))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Self::log_in(Stream::Unix(stream), user)
    }

    /// Opens a session over TLS, with arguments of `openssl s_client`. The text of an error contains all its output.
    pub(crate) fn open_tls(port: u16, user: &str, arguments: &[&str]) -> io::Result<Self> {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{port}")]);
        // Level 0 allows old hashes, whatever the configuration of the system is.
        command.args(["-cipher", "DEFAULT@SECLEVEL=0"]).args(arguments);
        command.env("OPENSSL_CONF", "/dev/null").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let mut errors = child.stderr.take().unwrap();
        let printed = thread::spawn(move || {
            let mut printed = Vec::new();
            let _ = errors.read_to_end(&mut printed);
            String::from_utf8_lossy(&printed).into_owned()
        });
        match Self::log_in(Stream::Tls(child), user) {
            // The stream is dropped, and the command with it.
            Err(cause) => Err(bad(&format!("{cause}\n{}", printed.join().unwrap()))),
            session => session,
        }
    }

    fn log_in(stream: Stream, user: &str) -> io::Result<Self> {
        let mut session = Self { stream, process_id: 0, auth: -1, notifications: Vec::new() };
        let body = format!("\0\x03\0\0user\0{user}\0database\0postgres\0\0");
        let length = i32::try_from(body.len() + 4).unwrap();
        session.write(&[&length.to_be_bytes()[..], body.as_bytes()].concat())?;
        loop {
            match session.message()? {
                (b'R', body) => {
                    session.auth = word(&body)?;
                    if session.auth != 0 {
                        return Ok(session);
                    }
                }
                (b'K', body) => session.process_id = word(&body)?,
                (b'Z', _) => return Ok(session),
                (b'E', body) => return Err(bad(&String::from_utf8_lossy(&body))),
                _ => {}
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    fn message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut header = [0; 5];
        self.stream.read_exact(&mut header)?;
        let length = usize::try_from(word(&header[1..])?).map_err(|_| bad("length"))?;
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body)?;
        Ok((header[0], body))
    }

    /// Returns the first column of each row, as text.
    pub(crate) fn ask(&mut self, sql: &str) -> io::Result<Vec<String>> {
        let length = i32::try_from(sql.len() + 5).unwrap();
        let message = [b"Q", &length.to_be_bytes()[..], sql.as_bytes(), b"\0"].concat();
        self.write(&message)?;
        let mut rows = Vec::new();
        let mut refused = None;
        loop {
            match self.message() {
                Ok((b'D', body)) => {
                    let length = usize::try_from(word(&body[2..])?).map_err(|_| bad("null"))?;
                    rows.push(String::from_utf8_lossy(&body[6..6 + length]).into_owned());
                }
                Ok((b'A', body)) => {
                    let text = String::from_utf8_lossy(&body[4..]).into_owned();
                    let mut parts = text.split('\0').map(str::to_owned);
                    self.notifications.push((parts.next().unwrap(), parts.next().unwrap()));
                }
                Ok((b'Z', _)) => return refused.map_or(Ok(rows), Err),
                Ok((b'E', body)) => refused = Some(bad(&String::from_utf8_lossy(&body))),
                Ok(_) => {}
                // The session may have ended with its error.
                Err(cause) => return Err(refused.unwrap_or(cause)),
            }
        }
    }

    /// Reads until the session ends, and returns the last message of the server.
    pub(crate) fn last_message(&mut self) -> String {
        let mut words = String::new();
        while let Ok((_, body)) = self.message() {
            words = String::from_utf8_lossy(&body).into_owned();
        }
        words
    }
}

fn word(bytes: &[u8]) -> io::Result<i32> {
    let word = bytes.get(..4).and_then(|four| four.try_into().ok());
    word.map(i32::from_be_bytes).ok_or_else(|| bad("short message"))
}

pub(crate) fn ask(cluster: &Cluster, sql: &str) -> Vec<String> {
    Session::open(cluster).unwrap().ask(sql).unwrap()
}

/// Repeats a check until it succeeds, and fails at a deadline.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
