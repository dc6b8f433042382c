//! The least of a client: enough of the protocol to log in without a password and to ask one question.
#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use pgbell_testkit::Cluster;

/// A session of the superuser.
pub(crate) struct Session {
    stream: TcpStream,
    pub(crate) process_id: i32,
    pub(crate) auth: i32,
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
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut session = Self { stream, process_id: 0, auth: -1 };
        let body = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
        let length = i32::try_from(body.len() + 4).unwrap();
        session.stream.write_all(&[&length.to_be_bytes()[..], body].concat())?;
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

    fn message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut header = [0; 5];
        self.stream.read_exact(&mut header)?;
        let length = usize::try_from(word(&header[1..])?).map_err(|_| bad("length"))?;
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body)?;
        Ok((header[0], body))
    }

    /// The first column of each row, as text.
    pub(crate) fn ask(&mut self, sql: &str) -> io::Result<Vec<String>> {
        let length = i32::try_from(sql.len() + 5).unwrap();
        let message = [b"Q", &length.to_be_bytes()[..], sql.as_bytes(), b"\0"].concat();
        self.stream.write_all(&message)?;
        let mut rows = Vec::new();
        loop {
            match self.message()? {
                (b'D', body) => {
                    let length = usize::try_from(word(&body[2..])?).map_err(|_| bad("null"))?;
                    rows.push(String::from_utf8_lossy(&body[6..6 + length]).into_owned());
                }
                (b'Z', _) => return Ok(rows),
                (b'E', body) => return Err(bad(&String::from_utf8_lossy(&body))),
                _ => {}
            }
        }
    }

    /// Reads until the session is over, and gives the server's last words.
    pub(crate) fn last_words(&mut self) -> String {
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

/// Asks again until it is so. A bound, not a pause: what never happens fails.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
