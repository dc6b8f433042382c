//! The clients that are attacked, told what to do, and what came of it.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use pgbell::proto::auth::{AuthPolicy, Credentials, Password, ScramNonce};
use pgbell::proto::session::{Login, Progress, Rows, Session, SessionEvent, SessionFacts};
use pgbell::proto::wire;
use pgbell::testing::{Delivery, Output, Script};
use pgbell::{Connection, Error, Event, Listener, Notification};

/// Planted: it must show nowhere.
pub(crate) const PASSWORD: &str = "pl4nted-s3cret";

/// Longest that a step of an attack may take: the catalogue says a second, a busy machine needs more.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a client does, one after the other. At the end it receives until its session is over.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Do {
    Listen(&'static [&'static str]),
    Query(&'static str),
    /// Waits for so many notifications.
    Receive(usize),
    Close,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// `listen`, or `listen: Kind: text`, and so on.
    pub(crate) lines: Vec<String>,
    /// Process id, channel, payload.
    pub(crate) heard: Vec<String>,
}

impl Outcome {
    /// Notes an event. Says whether it was none that is over.
    fn note<T>(&mut self, what: &str, result: &Result<T, Error>) -> bool {
        match result {
            Ok(_) => self.lines.push(what.to_owned()),
            Err(error) => {
                check_text(error);
                self.lines.push(format!("{what}: {:?}: {error:#}", error.kind()));
            }
        }
        result.is_ok()
    }

    fn hear(&mut self, process_id: i32, channel: &[u8], payload: &[u8]) {
        let [channel, payload] = [channel, payload].map(|bytes| bytes.escape_ascii());
        self.heard.push(format!("{process_id} {channel} {payload}"));
    }
}

/// What an error shows is fit for a terminal and a log, and holds nothing that was planted.
pub(crate) fn check_text(error: &Error) {
    let parts = format!("{error:#?}").replace('\n', " ");
    let mut text = format!("{error} {error:?} {parts}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(" {cause} {cause:?}"));
        source = cause.source();
    }
    print_once(&text);
    assert!(!text.contains(PASSWORD) && !text.contains("s3cret"), "{text}");
    let wild = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!text.contains(wild), "{}", text.escape_debug());
    assert!(text.len() < 64 * 1024, "{} bytes of text", text.len());
}

/// Prints a text once: what is printed is looked through for passwords by `tests/planted`.
#[expect(clippy::print_stdout, reason = "that is what it is for")]
fn print_once(text: &str) {
    static SHOWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SHOWN.lock().unwrap().insert(text.to_owned()) {
        println!("{}", text.escape_debug());
    }
}

/// Fails instead of hanging.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} took too long"),
    }
}

pub(crate) fn url(address: SocketAddr) -> String {
    format!("postgresql://alice:{PASSWORD}@{address}/db?sslmode=disable&scram_iterations_min=1")
}

fn show(results: &[Rows]) -> String {
    let rows = results.iter().map(|rows| format!(" {}[{}]", rows.command_tag(), rows.len()));
    format!("query{}", rows.collect::<String>())
}

pub(crate) async fn connection(url: &str, todo: &[Do]) -> Outcome {
    let mut outcome = Outcome::default();
    let connected = soon("connect", Connection::connect(url)).await;
    if !outcome.note("connect", &connected) {
        return outcome;
    }
    let mut connection = connected.unwrap();
    for what in todo {
        match what {
            Do::Listen(channels) => {
                let result = soon("listen", connection.listen_all(channels.iter())).await;
                outcome.note("listen", &result);
            }
            Do::Query(sql) => match soon("query", connection.simple_query(sql)).await {
                Ok(results) => outcome.lines.push(show(&results)),
                error => drop(outcome.note("query", &error)),
            },
            Do::Receive(count) => {
                while outcome.heard.len() < *count {
                    let Ok(batch) = soon("receive", connection.recv_batch()).await else { break };
                    batch.iter().for_each(|n| {
                        outcome.hear(n.process_id(), n.channel_bytes(), n.payload_bytes());
                    });
                }
            }
            Do::Close => {
                soon("close", connection.close()).await;
                outcome.note("close", &Ok(()));
                return outcome;
            }
        }
    }
    loop {
        match soon("end", connection.recv_batch()).await {
            Ok(batch) => {
                outcome.lines.extend(batch.loss().map(|loss| format!("{loss:?}")));
                let seen = batch.iter();
                seen.for_each(|n| {
                    outcome.hear(n.process_id(), n.channel_bytes(), n.payload_bytes());
                });
            }
            error => {
                outcome.note("over", &error);
                drop(error);
                break;
            }
        }
    }
    assert!(!format!("{connection:?}").contains(PASSWORD));
    outcome
}

pub(crate) async fn listener(url: &str, todo: &[Do]) -> Outcome {
    let mut outcome = Outcome::default();
    // The first loss is what is looked at: what follows it is another test's.
    let builder = Listener::builder(url).reconnect(false);
    let connected = soon("connect", builder.connect()).await;
    if !outcome.note("connect", &connected) {
        return outcome;
    }
    let mut listener = connected.unwrap();
    let hear = |outcome: &mut Outcome, n: &Notification| {
        outcome.hear(n.process_id(), n.channel_bytes(), n.payload_bytes());
    };
    for what in todo {
        match what {
            Do::Listen(channels) => {
                let result = soon("listen", listener.listen_all(channels.iter().copied())).await;
                outcome.note("listen", &result);
            }
            Do::Query(sql) => match soon("query", listener.simple_query(*sql)).await {
                Ok(results) => outcome.lines.push(show(&results)),
                error => drop(outcome.note("query", &error)),
            },
            Do::Receive(count) => {
                while outcome.heard.len() < *count {
                    let Ok(event) = soon("receive", listener.recv()).await else { break };
                    let Event::Notification(n) = event else { panic!("{event:?}") };
                    hear(&mut outcome, &n);
                }
            }
            Do::Close => {
                soon("close", listener.close()).await;
                outcome.note("close", &Ok(()));
                return outcome;
            }
        }
    }
    loop {
        match soon("end", listener.recv()).await {
            Ok(Event::Notification(n)) => hear(&mut outcome, &n),
            Ok(loss) => outcome.lines.push(format!("{loss:?}")),
            error => {
                outcome.note("over", &error);
                break;
            }
        }
    }
    assert!(!format!("{listener:?}").contains(PASSWORD));
    outcome
}

/// The login that the sockets' clients make too.
pub(crate) fn login() -> Login {
    let credentials = Credentials::new("alice").unwrap().password(Password::new(PASSWORD));
    let deadline = Instant::now() + Duration::from_secs(10);
    Login::new(credentials.unwrap(), ScramNonce::new([7; 18]), deadline)
        .policy(AuthPolicy::default().scram_iterations_min(1))
        .parameter("database", "db")
}

/// A session in memory, with the script for its server.
pub(crate) fn session(
    login: Login,
    mut script: Script,
    delivery: Delivery,
    todo: &[Do],
) -> Outcome {
    let mut player = Player {
        session: Session::new(login).unwrap(),
        input: BytesMut::new(),
        now: Instant::now(),
        todo: todo.iter(),
        outcome: Outcome::default(),
        waiting: "connect",
        over: false,
    };
    let mut to_server = BytesMut::new();
    let mut sent = 0;
    loop {
        to_server.extend_from_slice(&player.session.transmit().split());
        let output = script.step(&mut to_server).unwrap_or_else(|error| panic!("{error}"));
        match output {
            Output::NeedMore | Output::WaitForEof if player.go_on() => continue,
            Output::NeedMore | Output::WaitForEof => {
                let over = script.handle_eof(&to_server);
                over.unwrap_or_else(|error| panic!("{error}: {:?}", player.outcome));
                // A script that waits has a client that is gone or has nothing more to say.
                assert!(player.over, "the client waits: {:?}", player.outcome);
                break;
            }
            Output::Send(bytes) => {
                for piece in delivery.pieces(sent, &bytes) {
                    player.receive(piece);
                }
                sent += bytes.len();
            }
            Output::Flood(bytes) => {
                let capacity = bytes.len().max(64) * 4;
                while !player.over {
                    player.receive(&bytes);
                    assert!(player.input.len() <= capacity, "the input is not taken");
                }
                break;
            }
            Output::Close | Output::Reset | Output::Done => {
                player.end();
                break;
            }
        }
    }
    player.outcome
}

struct Player<'a> {
    session: Session,
    input: BytesMut,
    now: Instant,
    todo: std::slice::Iter<'a, Do>,
    outcome: Outcome,
    /// What the next event answers: `connect` until the server has said what it is.
    waiting: &'static str,
    over: bool,
}

impl Player<'_> {
    fn receive(&mut self, bytes: &[u8]) {
        if self.over {
            return;
        }
        self.input.extend_from_slice(bytes);
        loop {
            let progress = self.session.handle_input(self.now, &mut self.input);
            while self.session.is_computing() && self.session.compute().is_ok() {}
            self.take_events();
            match progress {
                Ok(Progress::NeedMore) => return,
                Ok(Progress::Notifications(run)) => {
                    for one in wire::frames(&self.input[..run.bytes]) {
                        self.outcome.hear(one.process_id, one.channel, one.payload);
                    }
                    self.input.advance(run.bytes);
                }
                Err(error) => return self.fail(error),
            }
        }
    }

    fn end(&mut self) {
        if !self.over {
            let error = self.session.handle_eof(&self.input);
            self.take_events();
            self.fail(error);
        }
    }

    fn fail(&mut self, error: Error) {
        self.over = true;
        let what = if self.waiting == "connect" { "connect" } else { "over" };
        self.outcome.note::<()>(what, &Err(error));
    }

    fn take_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                SessionEvent::Ready => {
                    // As the clients with sockets do, before anything else.
                    let _ = SessionFacts::query(&mut self.session, self.now);
                }
                SessionEvent::Done { result, .. } if self.waiting == "connect" => {
                    // When it is the end of the session, that says why.
                    if self.session.is_ready() {
                        let facts = result.and_then(|rows| SessionFacts::from_rows(&rows));
                        self.outcome.note("connect", &facts);
                        self.over = facts.is_err();
                        self.waiting = "";
                    }
                }
                SessionEvent::Done { result: Ok(results), .. } if self.waiting == "query" => {
                    self.outcome.lines.push(show(&results));
                }
                SessionEvent::Done { result, .. } => {
                    self.outcome.note(self.waiting, &result);
                }
                SessionEvent::NotificationDropped(error) => {
                    self.outcome.lines.push(format!("gap: {error}"));
                }
                event => panic!("{event:?}"),
            }
        }
    }

    /// Does what is next. Says whether there was anything.
    fn go_on(&mut self) -> bool {
        if self.over || !self.session.is_ready() || self.session.commands_in_flight() > 0 {
            return false;
        }
        match self.todo.next() {
            Some(Do::Listen(channels)) => {
                self.waiting = "listen";
                self.session.listen(self.now, channels).unwrap();
            }
            Some(Do::Query(sql)) => {
                self.waiting = "query";
                self.session.simple_query(self.now, sql).unwrap();
            }
            Some(Do::Receive(_)) => {}
            Some(Do::Close) => {
                self.over = true;
                self.outcome.lines.push("close".to_owned());
                self.session.terminate();
            }
            None => return false,
        }
        true
    }
}
