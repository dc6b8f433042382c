//! PostgreSQL's own client library as the reference: `libpq.py` calls it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conninfo/libpq.py");

/// One version of the library.
pub(crate) struct Libpq {
    path: PathBuf,
    /// The version number, such as 150020.
    pub(crate) version: u32,
    pub(crate) keys: BTreeSet<String>,
    /// Environment variables by the parameter that they set.
    pub(crate) variables: BTreeMap<String, String>,
}

/// The library's answer for one text.
pub(crate) struct Answer {
    pub(crate) accepted: bool,
    /// Parameters by name. Of `start` and `look`, with `PQpass` and `error`.
    pub(crate) values: BTreeMap<String, Vec<u8>>,
}

impl Answer {
    /// A value as text, empty if there is none.
    pub(crate) fn text(&self, key: &str) -> String {
        self.values
            .get(key)
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .unwrap_or_default()
    }
}

impl Libpq {
    /// The installed library: every Debian package of PostgreSQL contains it.
    pub(crate) fn installed() -> Self {
        Self::at("libpq.so.5")
    }

    /// The library at this path.
    pub(crate) fn at(path: impl AsRef<Path>) -> Self {
        let mut libpq = Self {
            path: path.as_ref().to_owned(),
            version: 0,
            keys: BTreeSet::new(),
            variables: BTreeMap::new(),
        };
        let lines = libpq.ask(["version", "keys", "variables"].map(ToOwned::to_owned).to_vec());
        libpq.version = lines[0].parse().unwrap();
        libpq.keys = lines[1].split(' ').map(ToOwned::to_owned).collect();
        let variables = answer(&lines[2]).values.into_iter();
        libpq.variables =
            variables.map(|(key, name)| (key, String::from_utf8(name).unwrap())).collect();
        libpq
    }

    /// The result of parsing each text.
    pub(crate) fn parse(&self, texts: &[String]) -> Vec<Answer> {
        let requests = texts.iter().map(|text| format!("parse {}", hex(text.as_bytes())));
        self.ask(requests.collect()).iter().map(|line| answer(line)).collect()
    }

    /// The parameters to which each text resolves, with these variables and no others. With `files` the library reads files,
    /// and tries to connect.
    pub(crate) fn start(&self, requests: &[(String, Vec<String>)], files: bool) -> Vec<Answer> {
        let operation = if files { "look" } else { "start" };
        let request = |(text, variables): &(String, Vec<String>)| {
            // An empty text would be no argument: a blank has the same meaning.
            let text = if text.is_empty() { " " } else { text };
            let variables: Vec<String> =
                variables.iter().map(|variable| hex(variable.as_bytes())).collect();
            format!("{operation} {} {}", hex(text.as_bytes()), variables.join(" "))
        };
        let lines = self.ask(requests.iter().map(request).collect());
        lines.iter().map(|line| answer(line)).collect()
    }

    fn ask(&self, requests: Vec<String>) -> Vec<String> {
        let mut child = Command::new("python3")
            .arg(SCRIPT)
            .arg(&self.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("python3 is needed, apt-get install python3: {error}"));
        let mut input = child.stdin.take().unwrap();
        let count = requests.len();
        let writer =
            thread::spawn(move || input.write_all((requests.join("\n") + "\n").as_bytes()));
        let output = child.wait_with_output().unwrap();
        // The script prints the error and the remedy there, and libpq its own warnings.
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} is needed: {message}", self.path.display());
        writer.join().unwrap().unwrap();
        let lines: Vec<String> =
            String::from_utf8(output.stdout).unwrap().lines().map(ToOwned::to_owned).collect();
        assert_eq!(lines.len(), count, "one answer for each request");
        lines
    }
}

fn answer(line: &str) -> Answer {
    let mut words = line.split(' ');
    let accepted = words.next() == Some("ok");
    let pair = |word: &str| {
        let (key, value) = word.split_once('=').unwrap();
        (key.to_owned(), unhex(value))
    };
    Answer { accepted, values: words.map(pair).collect() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[i * 2..i * 2 + 2], 16).unwrap()).collect()
}
