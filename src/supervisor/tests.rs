//! A supervisor between a scripted server and a small queue, without a clock.

mod close;
mod commands;
mod flow;
mod properties;
mod start;

use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;

use super::*;
use crate::auth::{AuthPolicy, Credentials, Password, ScramNonce};
use crate::notification::Lagged;
use crate::session::Login;
use crate::wire;
use crate::wire::{FirstPacket, Framer, ProtocolVersion, Run};

/// What the server says to let us in.
const PRELUDE: &[u8] = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x19client_encoding\0UTF8\0\
    K\0\0\0\x0c\0\0\0\x07\0\0\0\x01Z\0\0\0\x05I";
const READY: &[u8] = b"Z\0\0\0\x05I";
const IN_TRANSACTION: &[u8] = b"Z\0\0\0\x05T";
const LISTEN: &[u8] = b"C\0\0\0\x0bLISTEN\0";
const UNLISTEN: &[u8] = b"C\0\0\0\x0dUNLISTEN\0";
const SELECT: &[u8] = b"C\0\0\0\x0dSELECT 1\0";
const ERROR: &[u8] = b"E\0\0\0\x17SERROR\0C42501\0Mno\0\0";
const FATAL: &[u8] = b"E\0\0\0\x17SFATAL\0C57P01\0Mno\0\0";
/// Process id 1, channel `a`, payload `b`.
const A1: &[u8] = b"A\0\0\0\x0c\0\0\0\x01a\0b\0";

/// A queue that holds so many notifications, and says what came into it.
#[derive(Debug)]
struct Queue {
    capacity: usize,
    unread: usize,
    taken: u64,
    lost: u64,
    log: Vec<String>,
    published: bool,
}

impl Sink for Queue {
    fn fits(&self, frames: &[u8], run: Run, surplus: bool) -> Run {
        let room = if surplus { usize::MAX } else { self.capacity.saturating_sub(self.unread) };
        if run.count <= room { run } else { Run::first(room, frames) }
    }

    fn notifications(&mut self, input: &mut BytesMut, run: Run, stamp: Stamp, surplus: bool) {
        assert_eq!(stamp.epoch, 1);
        let fits = self.fits(input, run, surplus);
        let frames = input.split_to(run.bytes);
        assert_eq!(wire::frames(&frames).count(), run.count);
        self.taken += run.count as u64;
        self.unread += fits.count;
        if fits.count > 0 {
            self.log.push(format!("{} notifications", fits.count));
        }
        let count = (run.count - fits.count) as u64;
        if count > 0 {
            self.lost += count;
            self.log.push(Lagged { first_sequence: self.taken - count, count }.to_string());
        }
        self.published = false;
    }

    fn gap(&mut self, gap: Gap) {
        self.log.push(gap.to_string());
        self.published = false;
    }

    fn publish(&mut self) {
        self.published = true;
    }

    fn is_empty(&self) -> bool {
        self.unread == 0
    }
}

/// The shell: it carries bytes, time and actions, and writes down what it sees.
struct Shell {
    supervisor: Supervisor,
    queue: Queue,
    now: Instant,
    link: LinkId,
    reading: bool,
    /// What was read and not yet handled.
    input: BytesMut,
    sent: Vec<u8>,
    log: Vec<String>,
    commands: u64,
}

fn policy() -> Policy {
    Policy {
        channels: vec!["a".into()],
        overflow: Overflow::Block { max_stall: Duration::from_secs(1) },
        connect_timeout: Duration::from_secs(10),
        close_timeout: Duration::from_secs(2),
    }
}

fn session(now: Instant) -> Box<Session> {
    Box::new(Session::new(login(now)).unwrap())
}

fn login(now: Instant) -> Login {
    Login {
        credentials: Credentials::new("bob").unwrap().password(Password::new("secret")).unwrap(),
        policy: AuthPolicy::default().allow_cleartext(true),
        nonce: ScramNonce::new([7; 18]),
        parameters: Vec::new(),
        protocol: ProtocolVersion::V3_0,
        min_protocol: ProtocolVersion::V3_0,
        deadline: now + Duration::from_secs(10),
        command_timeout: Duration::from_secs(5),
    }
}

impl Shell {
    /// The socket is to be opened.
    fn new(policy: Policy) -> Self {
        let now = Instant::now();
        let queue =
            Queue { capacity: 4, unread: 0, taken: 0, lost: 0, log: Vec::new(), published: true };
        let mut shell = Self {
            supervisor: Supervisor::new(now, policy),
            queue,
            now,
            link: LinkId(u32::MAX),
            reading: true,
            input: BytesMut::new(),
            sent: Vec::new(),
            log: Vec::new(),
            commands: 0,
        };
        shell.act();
        assert_eq!(shell.take_log(), ["open 1"]);
        shell
    }

    /// The socket is open, the server has said nothing.
    fn opened(policy: Policy) -> Self {
        let mut shell = Self::new(policy);
        shell.event(LinkEvent::Opened(session(shell.now)));
        shell
    }

    /// The first subscription is active.
    fn connected(policy: Policy) -> Self {
        let mut shell = Self::opened(policy);
        shell.read(PRELUDE);
        assert_eq!(shell.take_sent(), ["startup", r#"LISTEN "a""#]);
        shell.read(&[LISTEN, READY].concat());
        assert_eq!(shell.take_log(), ["Connected"]);
        shell
    }

    fn event(&mut self, event: LinkEvent) {
        self.supervisor.handle_link(self.now, self.link, event);
        self.act();
    }

    fn read(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.handle_bytes();
        self.act();
    }

    fn handle_bytes(&mut self) {
        let stamp = Stamp { received_at: SystemTime::UNIX_EPOCH, epoch: self.supervisor.epoch() };
        let (now, link) = (self.now, self.link);
        self.supervisor.handle_bytes(now, stamp, link, &mut self.input, &mut self.queue);
        assert!(self.queue.published);
        assert_eq!(self.queue.taken, self.supervisor.received());
    }

    fn command(&mut self, command: Command) {
        let id = CommandId(self.commands);
        self.commands += 1;
        self.supervisor.handle_command(self.now, id, command);
        self.act();
    }

    /// The consumer takes so many.
    fn consume(&mut self, n: usize) {
        self.queue.unread = self.queue.unread.saturating_sub(n);
        self.supervisor.handle_room(self.now);
        self.act();
    }

    /// So much time passes, at once.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.supervisor.handle_timeout(self.now);
        self.act();
        let due = self.supervisor.poll_timeout();
        assert!(due.is_none_or(|due| due > self.now), "still due");
    }

    /// Until the next deadline.
    fn pass_until_due(&mut self) {
        let due = self.supervisor.poll_timeout().expect("a deadline");
        self.pass(due.saturating_duration_since(self.now));
    }

    fn act(&mut self) {
        while let Some(action) = self.supervisor.poll_action() {
            let line = match action {
                Action::Open { link } => {
                    self.link = link;
                    format!("open {}", link.0)
                }
                Action::Read { on, .. } => {
                    self.reading = on;
                    if on {
                        self.handle_bytes();
                    }
                    format!("read {on}")
                }
                Action::Close { how, .. } => format!("close {how:?}"),
                Action::Reply { id, result } => match result {
                    Ok(Reply::Listening(listening)) => format!("{}: {listening:?}", id.0),
                    Ok(Reply::Unlistened) => format!("{}: Unlistened", id.0),
                    Ok(Reply::Rows(rows)) => format!("{}: {} results", id.0, rows.len()),
                    Err(error) => format!("{}: {error}", id.0),
                },
                Action::State(state) => {
                    assert_eq!(state, self.supervisor.state());
                    format!("{state:?}")
                }
                Action::Done(Ok(())) => "done".to_owned(),
                Action::Done(Err(error)) => format!("done: {error}"),
            };
            self.log.push(line);
        }
        if let Some(out) = self.supervisor.transmit(self.link) {
            self.sent.extend(out.split());
        }
    }

    fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    fn take_queue(&mut self) -> Vec<String> {
        std::mem::take(&mut self.queue.log)
    }

    /// The text of the queries that were sent, and the names of other messages.
    fn take_sent(&mut self) -> Vec<String> {
        let sent = std::mem::take(&mut self.sent);
        let mut rest = &sent[..];
        let mut lines = Vec::new();
        if let Some(0) = rest.first() {
            let packet = FirstPacket::next(rest).unwrap().unwrap();
            rest = &rest[packet.wire_len()..];
            lines.push("startup".to_owned());
        }
        while !rest.is_empty() {
            let frame = Framer::frontend().next(rest).unwrap().expect("whole messages only");
            lines.push(match wire::FrontendMessage::decode(frame).unwrap() {
                wire::FrontendMessage::Query(sql) => sql.to_owned(),
                other => other.name().to_owned(),
            });
            rest = &rest[frame.wire_len()..];
        }
        lines
    }

    fn channels(&self) -> Vec<String> {
        self.supervisor.channels().map(|(name, how)| format!("{name} {how:?}")).collect()
    }
}

fn listen(channels: &[&str]) -> Command {
    Command::Listen(channels.iter().map(|&name| name.to_owned()).collect())
}

fn unlisten(channels: &[&str]) -> Command {
    Command::Unlisten(channels.iter().map(|&name| name.to_owned()).collect())
}

fn query(sql: &str) -> Command {
    Command::SimpleQuery(sql.to_owned())
}

const REFUSED: &str = "server error: the server refused LISTEN: ERROR: no (SQLSTATE 42501)";
const ENDED: &str = "server error: the server ended the session: FATAL: no (SQLSTATE 57P01)";
const OVER: &str = "closed: the listener is closed";

/// And one that still waited when the session was lost.
const UNSENT: &str = "closed: the listener has ended before this was sent";
const OPEN_TRANSACTION: &str = "misuse: the query left a transaction open on the listening session, \
    it was rolled back (hint: nothing is delivered inside a transaction: use a connection of its own)";
