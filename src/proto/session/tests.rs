//! Tests of a session with the bytes of a server, in hex, and the expected results, in words.
//!
//! Letters and numbers in the comments are items of the catalogue of faults: F framing, T
//! startup, A authentication, N notifications, Q answers, E errors, I identifiers, L leaks.

mod answers;
mod authentication;
mod commands;
mod errors;
mod framing;
mod long;
mod notifications;
mod properties;
mod startup;
mod versions;

use std::time::{Duration, Instant};

use bytes::BytesMut;
use proptest::sample::Index;

use super::{Login, Progress, Rows, Session, SessionEvent};
use crate::error::{Error, ErrorKind};
use crate::proto::auth::{AuthPolicy, Credentials, Password, ScramNonce};
use crate::proto::wire::{self, FirstPacket, Framer, ProtocolVersion};

const AUTHENTICATION_OK: &str = "52 00000008 00000000";
const CLIENT_ENCODING: &str = "53 00000019 636c69656e745f656e636f64696e6700 5554463800";
const SERVER_VERSION: &str = "53 00000018 7365727665725f76657273696f6e00 31382e3700";
const KEY: &str = "4b 0000000c 00000007 00000001";
const READY: &str = "5a 00000005 49";
/// A login without a password.
const PRELUDE: [&str; 5] = [AUTHENTICATION_OK, CLIENT_ENCODING, SERVER_VERSION, KEY, READY];
/// Process id 1, channel `a`, payload `b`.
const A1: &str = "41 0000000c 00000001 6100 6200";
const LISTEN: &str = "43 0000000b 4c495354454e00";
const SELECT_1: &str = "43 0000000d 53454c454354203100";
/// One column `c` of type `text`, and a row of it with the value `x`.
const COLUMN: &str = "54 0000001a 0001 6300 00000000 0000 00000019 ffff ffffffff 0000";
const ROW: &str = "44 0000000b 0001 00000001 78";
/// ERROR 42501 "no".
const ERROR: &str = "45 00000017 534552524f5200 43343235303100 4d6e6f00 00";

const PASSWORD: &str = "xyzzy-plugh";

/// Parses bytes from hex digits. Blanks are ignored.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).unwrap()).collect();
    assert!(digits.len().is_multiple_of(2), "half a byte in {text}");
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

fn join(parts: &[&str]) -> Vec<u8> {
    hex(&parts.concat())
}

/// Returns a message with any type byte and body.
fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, body].concat()
}

fn login() -> Login {
    Login {
        credentials: Credentials::new("bob").unwrap(),
        policy: AuthPolicy::default().allow_cleartext(true).scram_iterations_min(1),
        nonce: ScramNonce::new([7; 18]),
        parameters: vec![("database".into(), "db".into())],
        protocol: ProtocolVersion::V3_0,
        min_protocol: ProtocolVersion::V3_0,
        deadline: Instant::now() + Duration::from_secs(10),
        command_timeout: Duration::from_secs(5),
    }
}

fn login_with_password() -> Login {
    let credentials = Credentials::new("bob").unwrap().password(Password::new(PASSWORD)).unwrap();
    Login { credentials, ..login() }
}

/// The beginning of a case.
#[derive(Clone)]
struct Scene {
    login: fn() -> Login,
    /// The bytes that the server sent before.
    before: Vec<u8>,
    /// The commands that are sent as soon as the session is ready.
    commands: fn(&mut Session, Instant),
    /// The position at which the server waits for the commands.
    pause: usize,
}

impl Scene {
    /// A session that has received nothing.
    fn new() -> Self {
        Self { login, before: Vec::new(), commands: |_, _| {}, pause: 0 }
    }

    fn with_password() -> Self {
        Self { login: login_with_password, ..Self::new() }
    }

    /// A session that has received AuthenticationOk.
    fn authenticated() -> Self {
        Self { before: hex(AUTHENTICATION_OK), ..Self::new() }
    }

    fn idle() -> Self {
        Self::after(|_, _| {})
    }

    /// A ready session with these commands in flight.
    fn after(commands: fn(&mut Session, Instant)) -> Self {
        Self { before: join(&PRELUDE), commands, ..Self::new() }
    }

    /// A session with `LISTEN "a"` in flight.
    fn listening() -> Self {
        Self::after(|session, now| {
            session.listen(now, &["a"]).unwrap();
        })
    }

    fn querying() -> Self {
        Self::after(|session, now| {
            session.simple_query(now, "SELECT 'x'").unwrap();
        })
    }

    /// A session with a query with parameters in flight.
    fn binding() -> Self {
        Self::after(|session, now| {
            session.query(now, "SELECT $1", &[(25, None)]).unwrap();
        })
    }

    fn begin(&self) -> Play {
        let mut play = Play::new((self.login)(), self.commands);
        play.pause = self.pause;
        play.feed(&self.before);
        assert!(!play.over, "{:?}", play.log);
        play.log.clear();
        play
    }
}

/// A session, and a record of its results.
struct Play {
    session: Session,
    input: BytesMut,
    now: Instant,
    commands: fn(&mut Session, Instant),
    log: Vec<String>,
    sent: Vec<u8>,
    over: bool,
    /// The number of commands that were accepted.
    commands_sent: usize,
    pause: usize,
    fed: usize,
}

impl Play {
    fn new(login: Login, commands: fn(&mut Session, Instant)) -> Self {
        let now = Instant::now();
        let session = Session::new(login).unwrap();
        let (input, log, sent) = Default::default();
        let (over, commands_sent, pause, fed) = Default::default();
        let mut play =
            Self { session, input, now, commands, log, sent, over, commands_sent, pause, fed };
        play.write();
        play
    }

    /// Passes in bytes, and goes on until the session needs more of them.
    fn feed(&mut self, bytes: &[u8]) {
        let before_pause = self.pause.saturating_sub(self.fed).min(bytes.len());
        let (head, tail) = bytes.split_at(before_pause);
        if !head.is_empty() {
            self.feed_now(head);
        }
        self.feed_now(tail);
    }

    fn feed_now(&mut self, bytes: &[u8]) {
        self.fed += bytes.len();
        self.input.extend_from_slice(bytes);
        while !self.over {
            let progress = self.session.handle_input(self.now, &mut self.input);
            self.take_events();
            while self.session.is_computing() {
                if let Err(error) = self.session.compute() {
                    self.end(&error);
                }
            }
            self.write();
            match progress {
                Ok(Progress::NeedMore) => break,
                Ok(Progress::Notifications(run)) => {
                    let frames = self.input.split_to(run.bytes);
                    assert_eq!(wire::frames(&frames).count(), run.count);
                    for raw in wire::frames(&frames) {
                        let [channel, payload] =
                            [raw.channel, raw.payload].map(|bytes| bytes.escape_ascii());
                        self.log.push(format!("A {} {channel} {payload}", raw.process_id));
                    }
                }
                Err(error) => self.end(&error),
            }
        }
    }

    fn eof(&mut self) -> Error {
        let error = self.session.handle_eof(!self.input.is_empty());
        self.take_events();
        self.end(&error);
        error
    }

    fn take_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            let line = match event {
                SessionEvent::Ready => {
                    if self.session.is_ready() {
                        (self.commands)(&mut self.session, self.now);
                    }
                    self.commands_sent += self.session.commands_in_flight();
                    "ready".to_owned()
                }
                SessionEvent::Done { id, result: Ok(results), .. } => {
                    let results: Vec<String> = results.iter().map(show).collect();
                    format!("done {}: {}", id.0, results.join(", "))
                }
                SessionEvent::Done { id, result: Err(error), .. } => {
                    format!("done {}: {error:#}", id.0)
                }
                SessionEvent::NotificationDropped(error) => format!("dropped: {error:#}"),
            };
            self.log.push(line);
        }
    }

    fn write(&mut self) {
        self.sent.extend(self.session.transmit().split());
    }

    /// Checks that a failed session stays failed, and returns the same error every time.
    fn end(&mut self, error: &Error) {
        if self.over {
            return;
        }
        self.over = true;
        self.log.push(format!("over: {error:#}"));
        let (now, text) = (self.now, format!("{error:#}"));
        let again = self.session.handle_input(now, &mut self.input.clone());
        assert_eq!(format!("{:#}", again.unwrap_err()), text);
        assert_eq!(self.session.handle_eof(false).to_string(), text);
        assert_eq!(self.session.fail(Error::new(ErrorKind::Tls, "other")).to_string(), text);
        for refused in [
            self.session.listen(now, &["a"]),
            self.session.unlisten(now, &["a"]),
            self.session.unlisten_all(now),
            self.session.simple_query(now, "SELECT 1"),
            self.session.query(now, "SELECT $1", &[(0, None)]),
            self.session.notify(now, "a", ""),
        ] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Closed);
        }
        assert_eq!(self.session.commands_in_flight(), 0);
        assert_eq!(self.session.channels().count(), 0);
        assert_eq!(self.session.poll_timeout(), None);
        assert!(self.session.transmit().is_empty());
        assert!(self.session.poll_event().is_none());
        assert!(!self.session.is_ready() && !self.session.is_computing());
    }

    /// Returns the messages that were sent. The first one is the startup packet, which has no type byte.
    fn sent_messages(&self) -> Vec<Vec<u8>> {
        let first = FirstPacket::next(&self.sent).unwrap().expect("a whole startup packet");
        let (first, mut rest) = self.sent.split_at(first.wire_len());
        let mut messages = vec![first.to_vec()];
        while !rest.is_empty() {
            let frame = Framer::frontend().next(rest).unwrap().expect("whole messages only");
            let (message, behind) = rest.split_at(frame.wire_len());
            messages.push(message.to_vec());
            rest = behind;
        }
        messages
    }
}

/// Returns the command tag and the rows: `SELECT 1 [x|NULL]`.
fn show(rows: &Rows) -> String {
    let mut text = rows.command_tag().to_owned();
    for row in rows.iter() {
        let values: Vec<_> = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect();
        text += &format!(" [{}]", values.join("|"));
    }
    text
}

/// Passes in bytes in pieces. Returns the results and the bytes that were sent before the end.
fn play(scene: &Scene, pieces: &[&[u8]]) -> (Vec<String>, Vec<u8>) {
    let mut play = scene.begin();
    for piece in pieces {
        play.feed(piece);
    }
    (play.log, if play.over { Vec::new() } else { play.sent })
}

/// Returns the positions at which to split bytes of this length: all, or those at both ends and some between.
fn splits(length: usize) -> impl Iterator<Item = usize> {
    let step = (length / 16).max(1);
    (1..length).filter(move |at| length < 600 || *at < 20 || *at + 20 > length || at % step == 0)
}

/// Checks that the server's bytes, in one piece, byte by byte and split in two at every position, give exactly
/// these lines. A line that ends with `…` is the beginning of the expected one.
fn check_bytes(scene: &Scene, bytes: &[u8], expect: &[&str]) {
    let whole = play(scene, &[bytes]);
    let fits = |found: &String, line: &&str| match line.strip_suffix('…') {
        Some(beginning) => found.starts_with(beginning),
        None => found == line,
    };
    let all = whole.0.len() == expect.len() && whole.0.iter().zip(expect).all(|(a, b)| fits(a, b));
    let head = bytes.get(..60).unwrap_or(bytes).escape_ascii();
    assert!(all, "\n{head}\nfound    {:#?}\nexpected {expect:#?}", whole.0);
    check_splits(scene, bytes, &whole);
}

/// Checks that the bytes give the same byte by byte and split in two.
fn check_splits(scene: &Scene, bytes: &[u8], whole: &(Vec<String>, Vec<u8>)) {
    let head = bytes.get(..60).unwrap_or(bytes).escape_ascii();
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert!(play(scene, &single) == *whole, "byte by byte: {head}");
    for at in splits(bytes.len()) {
        let (first, second) = bytes.split_at(at);
        assert!(play(scene, &[first, second]) == *whole, "split at {at}: {head}");
    }
}

/// Returns a stream that is cut at these positions.
fn pieces<'a>(stream: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    cuts.sort_unstable();
    let from = std::iter::once(0).chain(cuts.iter().copied());
    let to = cuts.iter().copied().chain([stream.len()]);
    from.zip(to).map(|(from, to)| &stream[from..to]).collect()
}

fn check(scene: &Scene, parts: &[&str], expect: &[&str]) {
    check_bytes(scene, &join(parts), expect);
}

/// Returns a long session with every kind of message and every kind of command.
fn recorded() -> (Scene, Vec<u8>) {
    let commands = |session: &mut Session, now| {
        for sent in [
            session.listen(now, &["a", "b"]),
            session.simple_query(now, "SELECT 'x'; SELECT; "),
            session.query(now, "SELECT $1", &[(25, Some("x"))]),
            session.notify(now, "a", "b"),
            session.simple_query(now, "COPY t TO STDOUT"),
            session.simple_query(now, "COPY t FROM STDIN"),
            session.listen(now, &["c"]),
            session.unlisten(now, &["a"]),
            session.unlisten_all(now),
        ] {
            sent.unwrap();
        }
    };
    let unlisten = "43 0000000d 554e4c495354454e00";
    let warning = "4e 00000019 535741524e494e4700 43303130303000 4d687500 00";
    let bytes = join(&[
        AUTHENTICATION_OK,
        warning,
        CLIENT_ENCODING,
        SERVER_VERSION,
        KEY,
        READY,
        LISTEN,
        A1,
        LISTEN,
        A1,
        READY,
        A1,
        A1,
        COLUMN,
        ROW,
        warning,
        ROW,
        SELECT_1,
        A1,
        "49 00000004",
        READY,
        "31 00000004 32 00000004",
        COLUMN,
        ROW,
        A1,
        SELECT_1,
        CLIENT_ENCODING,
        READY,
        "31 00000004 32 00000004 6e 00000004",
        SELECT_1,
        A1,
        READY,
        "48 00000007 00 0000 64 00000006 780a 63 00000004",
        SELECT_1,
        READY,
        "47 00000007 00 0000",
        ERROR,
        READY,
        ERROR,
        A1,
        READY,
        unlisten,
        READY,
        unlisten,
        READY,
        ERROR,
        READY,
        A1,
    ]);
    let pause = join(&[warning, &PRELUDE.concat()]).len();
    (Scene { commands, pause, ..Scene::new() }, bytes)
}
