//! The messages of other clients, as `scripts/drivers.sh --record` has recorded them: the backend understands all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::{Buf, BytesMut};
use pgbell::testing::{Answer, Backend, SessionId};

/// The bytes of each message, with the number of its connection.
type Recorded = Vec<(usize, Vec<u8>)>;

/// Every recording, by the name of its client.
fn recordings() -> BTreeMap<String, Recorded> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testing/drivers");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, text.lines().map(recorded).collect())
    };
    files.map(read).collect()
}

/// A line of a recording: `2> Q\0\0\0\x12LISTEN orders\0`.
fn recorded(line: &str) -> (usize, Vec<u8>) {
    let (number, escaped) = line.split_once("> ").unwrap();
    let mut bytes = Vec::new();
    let mut parts = escaped.split('\\');
    bytes.extend_from_slice(parts.next().unwrap().as_bytes());
    for part in parts {
        let (byte, rest) = match part.strip_prefix('x') {
            Some(digits) => (u8::from_str_radix(&digits[..2], 16).unwrap(), &digits[2..]),
            None => (0, part.strip_prefix('0').unwrap()),
        };
        bytes.push(byte);
        bytes.extend_from_slice(rest.as_bytes());
    }
    (number.parse().unwrap(), bytes)
}

/// Splits strings that end with NUL.
fn strings(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split(|byte| *byte == 0).collect()
}

/// What the backend sent to a client, over all its connections.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answers {
    payloads: Vec<String>,
    sqlstates: Vec<String>,
    /// The values of all rows.
    values: Vec<Vec<u8>>,
}

impl Answers {
    /// Parses the complete messages of one connection.
    fn take(&mut self, output: &mut BytesMut) {
        // Answers to requests for encryption have no length.
        while output.first() == Some(&b'N') && output.get(1..3) != Some(&[0, 0]) {
            output.advance(1);
        }
        while !output.is_empty() {
            let tag = output.get_u8();
            let length = output.get_u32();
            let mut body = output.split_to(usize::try_from(length).unwrap() - 4);
            match tag {
                b'A' => {
                    body.advance(4);
                    let strings = strings(&body);
                    assert_eq!(strings[0], b"orders");
                    self.payloads.push(String::from_utf8(strings[1].to_vec()).unwrap());
                }
                b'E' => {
                    let fields = strings(&body);
                    assert!(fields.contains(&&b"SERROR"[..]), "{fields:?}");
                    let code = fields.iter().find_map(|field| field.strip_prefix(b"C")).unwrap();
                    self.sqlstates.push(String::from_utf8(code.to_vec()).unwrap());
                }
                b'D' => {
                    for _ in 0..body.get_u16() {
                        let length = usize::try_from(body.get_i32()).unwrap();
                        self.values.push(body.split_to(length).to_vec());
                    }
                }
                _ => {}
            }
        }
    }
}

/// Plays a recording to a backend, in pieces of this many bytes.
fn replay(recorded: &Recorded, piece: usize) -> Answers {
    let mut backend = Backend::default();
    let stock = Answer::rows(["id", "name"]).types([23, 25]).parameter_types([23]);
    backend.answer("SELECT id, name FROM stock WHERE id = $1", stock.row(["7", "ink"]));
    let mut sessions: BTreeMap<usize, (SessionId, BytesMut)> = BTreeMap::new();
    let mut answers = Answers::default();
    for (number, message) in recorded {
        let (id, input) =
            sessions.entry(*number).or_insert_with(|| (backend.connect(), BytesMut::new()));
        for piece in message.chunks(piece) {
            input.extend_from_slice(piece);
            backend.handle_input(*id, input);
        }
        assert!(input.is_empty(), "the backend has not consumed all of {message:?}");
        let is_last = message == b"X\0\0\0\x04";
        assert_eq!(backend.is_closed(*id), is_last, "{message:?}");
        for (id, _) in sessions.values() {
            answers.take(&mut backend.transmit(*id).split());
        }
    }
    answers
}

#[test]
fn every_message_of_other_clients_is_understood() {
    let recordings = recordings();
    for (client, recorded) in &recordings {
        let answers = replay(recorded, usize::MAX);
        assert_eq!(answers, replay(recorded, 1), "{client}");
        // pg8000 decodes payloads as ASCII.
        let bound = if client == "pg8000" { "bound" } else { "bound é" };
        assert_eq!(answers.payloads, ["plain", "it's", bound, "committed"], "{client}");
        assert_eq!(answers.sqlstates, ["0A000", "0A000"], "{client}");
        // These two write values into the text of the query, for which the test has no answer then.
        if client != "psql" && client != "psycopg2" {
            let row = answers.values.windows(2).find(|row| row[1] == b"ink");
            let id = &row.unwrap_or_else(|| panic!("{client}: the row is missing"))[0];
            assert!(id == b"7" || id == &[0, 0, 0, 7], "{client}: {id:?}");
        }
    }
}

/// The documentation names exactly the clients that were recorded.
#[test]
fn the_documentation_names_every_client_that_was_recorded() {
    let documentation = include_str!("../../src/testing/server/clients.md");
    let named: BTreeSet<&str> = documentation
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
        .filter(|name| *name != "client" && !name.starts_with('-'))
        .collect();
    let recordings = recordings();
    assert_eq!(named, recordings.keys().map(String::as_str).collect());
}
