//! A minimal client for the queries of the testkit itself.
//!
//! It logs in as a role of its own over the cluster's Unix socket, whose directory only the server's user and root can
//! enter. The role needs no password there, cannot log in elsewhere, and has no rights except to read, and to stream if there
//! is a standby.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;

/// The testkit's own role in every cluster.
pub(crate) const ROLE: &str = "pgbell_testkit";

/// Makes the role.
pub(crate) const ROLE_SQL: &str = "CREATE ROLE pgbell_testkit LOGIN";

/// Allows the role to stream to a standby.
pub(crate) const ROLE_STREAMS_SQL: &str = "ALTER ROLE pgbell_testkit REPLICATION";

/// Lines of `pg_hba.conf` for the role, before all others.
pub(crate) const ROLE_HBA: &str = "\
local postgres,replication pgbell_testkit trust
local all pgbell_testkit reject
host all,replication pgbell_testkit all reject
";

/// The longest time of one read or write.
const STEP_MAX: Duration = Duration::from_secs(10);

/// The pause before the next query of the same kind.
pub(crate) const PAUSE: Duration = Duration::from_millis(5);

/// The longest message that is read, in bytes. Answers are much shorter.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A session of the testkit's role in the database `postgres`.
pub(crate) struct Session {
    stream: UnixStream,
}

impl Session {
    pub(crate) fn open(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(STEP_MAX))?;
        stream.set_write_timeout(Some(STEP_MAX))?;
        let mut session = Self { stream };
        let login = format!("\0\x03\0\0user\0{ROLE}\0database\0postgres\0\0");
        session.send(b"", login.as_bytes())?;
        session.answer()?;
        Ok(session)
    }

    /// Executes a query and returns the first column of the first row.
    pub(crate) fn ask(&mut self, sql: &str) -> io::Result<String> {
        self.send(b"Q", format!("{sql}\0").as_bytes())?;
        self.answer()?.ok_or_else(|| bad("the server answered with no value"))
    }

    fn send(&mut self, kind: &[u8], body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len() + 4).map_err(|_| bad("too long a message"))?;
        self.stream.write_all(&[kind, &length.to_be_bytes(), body].concat())
    }

    /// Reads up to ReadyForQuery. Returns the first value.
    fn answer(&mut self) -> io::Result<Option<String>> {
        let mut value = None;
        loop {
            let (kind, body) = self.message()?;
            match kind {
                b'D' if value.is_none() => value = first_value(&body),
                b'E' => return Err(io::Error::other(error_text(&body))),
                b'R' if body != [0; 4] => {
                    return Err(bad("pg_hba.conf does not let the testkit's own role in"));
                }
                b'Z' => return Ok(value),
                _ => {}
            }
        }
    }

    fn message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
            return Err(bad("a message of no likely length"));
        }
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body)?;
        Ok((kind, body))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Terminate. Without it the server logs one more line.
        let _ = self.send(b"X", b"");
    }
}

/// Returns a function for `map_err` that says that the server did not answer.
pub(crate) fn unanswered(socket: &Path) -> impl FnOnce(io::Error) -> Error {
    let message = format!("the server on {} does not answer", socket.display());
    move |cause| Error::io(message, cause)
}

/// Repeats a query, each time in a new session, until the answer is true. Returns the last answer as the error after the
/// longest time.
pub(crate) fn until_true(socket: &Path, sql: &str, longest: Duration) -> Result<(), String> {
    let deadline = Instant::now() + longest;
    loop {
        match is_true(socket, sql) {
            Ok(()) => return Ok(()),
            Err(last) if Instant::now() >= deadline => {
                return Err(format!("after {} s {last}", longest.as_secs()));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Executes a query in a session of its own. Returns the answer as the error if it is not true.
pub(crate) fn is_true(socket: &Path, sql: &str) -> Result<(), String> {
    match Session::open(socket).and_then(|mut session| session.ask(sql)) {
        Ok(answer) if answer == "t" => Ok(()),
        Ok(answer) => Err(format!("{sql} is {answer}")),
        Err(cause) => Err(cause.to_string()),
    }
}

fn bad(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Returns the first value of a DataRow: after a count of two bytes, a length of four bytes and the value.
fn first_value(body: &[u8]) -> Option<String> {
    let (length, rest) = body.get(2..)?.split_first_chunk::<4>()?;
    let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
    Some(String::from_utf8_lossy(rest.get(..length)?).into_owned())
}

/// Returns the code and the message of an ErrorResponse.
fn error_text(body: &[u8]) -> String {
    let field = |kind: u8| {
        let mut fields = body.split(|byte| *byte == 0);
        let found = fields.find(|field| field.first() == Some(&kind)).unwrap_or_default();
        String::from_utf8_lossy(found.get(1..).unwrap_or_default()).into_owned()
    };
    format!("{} {}", field(b'C'), field(b'M'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_errors_are_read_and_nonsense_is_not() {
        assert_eq!(first_value(b"\0\x01\0\0\0\x02okmore").as_deref(), Some("ok"));
        assert_eq!(first_value(b"\0\x01\xff\xff\xff\xff"), None);
        assert_eq!(first_value(b"\0\x01\0\0\0\x09short"), None);
        assert_eq!(first_value(b""), None);
        assert_eq!(error_text(b"SFATAL\0C57P03\0Mstarting up\0\0"), "57P03 starting up");
        assert_eq!(error_text(b""), " ");
    }

    #[test]
    fn a_socket_without_a_server_is_an_error() {
        let socket = Path::new("/nonexistent/.s.PGSQL.1");
        let error = Session::open(socket).map_err(unanswered(socket)).err().unwrap();
        let error = format!("{error:#}");
        assert!(error.starts_with("the server on /nonexistent/.s.PGSQL.1 does not answer: "));
    }
}
