//! The attacked clients: their actions and their outcome.

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

/// The planted password: no output may contain it.
pub(crate) const PASSWORD: &str = "pl4nted-s3cret";

/// The longest time for one step of an attack: the catalogue demands a second, a busy machine needs more.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);

/// An action of a client. After the last one it receives until its session has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    Listen(&'static [&'static str]),
    Query(&'static str),
    /// Waits for this number of notifications.
    Receive(usize),
    Close,
}

/// The outcome for one client.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// `listen`, or `listen: Kind: text`, and so on.
    pub(crate) lines: Vec<String>,
    /// Process id, channel, payload.
    pub(crate) received: Vec<String>,
}

impl Outcome {
    /// Adds the line of an event. Returns whether the event was a success.
    fn record_result<T>(&mut self, what: &str, result: &Result<T, Error>) -> bool {
        match result {
            Ok(_) => self.lines.push(what.to_owned()),
            Err(error) => {
                check_text(error);
                self.lines.push(format!("{what}: {:?}: {error:#}", error.kind()));
            }
        }
        result.is_ok()
    }

    fn record(&mut self, process_id: i32, channel: &[u8], payload: &[u8]) {
        let [channel, payload] = [channel, payload].map(|bytes| bytes.escape_ascii());
        self.received.push(format!("{process_id} {channel} {payload}"));
    }
}

/// Checks that the text of an error is safe for a terminal and a log, and contains no planted secret.
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
    let is_unsafe = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!text.contains(is_unsafe), "{}", text.escape_debug());
    assert!(text.len() < 64 * 1024, "{} bytes of text", text.len());
}

/// Prints a text once: `tests/planted` searches the output of the tests for passwords.
#[expect(clippy::print_stdout, reason = "printing is the purpose")]
fn print_once(text: &str) {
    static SHOWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SHOWN.lock().unwrap().insert(text.to_owned()) {
        println!("{}", text.escape_debug());
    }
}

/// Awaits a future and panics on a timeout.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(STEP_TIMEOUT, future).await {
        Ok(value) => value,
        Err(_) => panic!("timed out: {what}"),
    }
}

pub(crate) fn url(address: SocketAddr) -> String {
    format!("postgresql://alice:{PASSWORD}@{address}/db?sslmode=disable&scram_iterations_min=1")
}

fn show(results: &[Rows]) -> String {
    let rows = results.iter().map(|rows| format!(" {}[{}]", rows.command_tag(), rows.len()));
    format!("query{}", rows.collect::<String>())
}

pub(crate) async fn connection(url: &str, actions: &[Action]) -> Outcome {
    let mut outcome = Outcome::default();
    let connected = soon("connect", Connection::connect(url)).await;
    if !outcome.record_result("connect", &connected) {
        return outcome;
    }
    let mut connection = connected.unwrap();
    for what in actions {
        match what {
            Action::Listen(channels) => {
                let result = soon("listen", connection.listen_all(channels.iter())).await;
                outcome.record_result("listen", &result);
            }
            Action::Query(sql) => match soon("query", connection.simple_query(sql)).await {
                Ok(results) => outcome.lines.push(show(&results)),
                error => drop(outcome.record_result("query", &error)),
            },
            Action::Receive(count) => {
                while outcome.received.len() < *count {
                    let Ok(batch) = soon("receive", connection.recv_batch()).await else { break };
                    batch.iter().for_each(|n| {
                        outcome.record(n.process_id(), n.channel_bytes(), n.payload_bytes());
                    });
                }
            }
            Action::Close => {
                soon("close", connection.close()).await;
                outcome.record_result("close", &Ok(()));
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
                    outcome.record(n.process_id(), n.channel_bytes(), n.payload_bytes());
                });
            }
            error => {
                outcome.record_result("over", &error);
                drop(error);
                break;
            }
        }
    }
    assert!(!format!("{connection:?}").contains(PASSWORD));
    outcome
}

pub(crate) async fn listener(url: &str, actions: &[Action]) -> Outcome {
    let mut outcome = Outcome::default();
    // Only the first loss is of interest: other tests look at what follows it.
    let builder = Listener::builder(url).reconnect(false);
    let connected = soon("connect", builder.connect()).await;
    if !outcome.record_result("connect", &connected) {
        return outcome;
    }
    let mut listener = connected.unwrap();
    let record = |outcome: &mut Outcome, n: &Notification| {
        outcome.record(n.process_id(), n.channel_bytes(), n.payload_bytes());
    };
    for what in actions {
        match what {
            Action::Listen(channels) => {
                let result = soon("listen", listener.listen_all(channels.iter().copied())).await;
                outcome.record_result("listen", &result);
            }
            Action::Query(sql) => match soon("query", listener.simple_query(*sql)).await {
                Ok(results) => outcome.lines.push(show(&results)),
                error => drop(outcome.record_result("query", &error)),
            },
            Action::Receive(count) => {
                while outcome.received.len() < *count {
                    let Ok(event) = soon("receive", listener.recv()).await else { break };
                    let Event::Notification(n) = event else { panic!("{event:?}") };
                    record(&mut outcome, &n);
                }
            }
            Action::Close => {
                soon("close", listener.close()).await;
                outcome.record_result("close", &Ok(()));
                return outcome;
            }
        }
    }
    loop {
        match soon("end", listener.recv()).await {
            Ok(Event::Notification(n)) => record(&mut outcome, &n),
            Ok(loss) => outcome.lines.push(format!("{loss:?}")),
            error => {
                outcome.record_result("over", &error);
                break;
            }
        }
    }
    assert!(!format!("{listener:?}").contains(PASSWORD));
    outcome
}

/// The login of the clients over sockets.
pub(crate) fn login() -> Login {
    let credentials = Credentials::new("alice").unwrap().password(Password::new(PASSWORD));
    let deadline = Instant::now() + Duration::from_secs(10);
    Login::new(credentials.unwrap(), ScramNonce::new([7; 18]), deadline)
        .policy(AuthPolicy::default().scram_iterations_min(1))
        .parameter("database", "db")
}

/// Runs a session in memory against the script as its server.
pub(crate) fn session(
    login: Login,
    mut script: Script,
    delivery: Delivery,
    actions: &[Action],
) -> Outcome {
    let mut player = Player {
        session: Session::new(login).unwrap(),
        input: BytesMut::new(),
        now: Instant::now(),
        actions: actions.iter(),
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
            Output::NeedMore | Output::WaitForEof if player.next_action() => continue,
            Output::NeedMore | Output::WaitForEof => {
                let over = script.handle_eof(&to_server);
                over.unwrap_or_else(|error| panic!("{error}: {:?}", player.outcome));
                // If the script waits, the client has closed or has finished its actions.
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
                    assert!(player.input.len() <= capacity, "the input is not consumed");
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
    actions: std::slice::Iter<'a, Action>,
    outcome: Outcome,
    /// The line that the next event completes: `connect` until the server has answered the query for its facts.
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
                        self.outcome.record(one.process_id, one.channel, one.payload);
                    }
                    self.input.advance(run.bytes);
                }
                Err(error) => return self.fail(error),
            }
        }
    }

    fn end(&mut self) {
        if !self.over {
            let error = self.session.handle_eof(!self.input.is_empty());
            self.take_events();
            self.fail(error);
        }
    }

    fn fail(&mut self, error: Error) {
        self.over = true;
        let what = if self.waiting == "connect" { "connect" } else { "over" };
        self.outcome.record_result::<()>(what, &Err(error));
    }

    fn take_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                SessionEvent::Ready => {
                    // Like the clients with sockets, which send it first.
                    let _ = SessionFacts::query(&mut self.session, self.now);
                }
                SessionEvent::Done { result, .. } if self.waiting == "connect" => {
                    // If the session ends, its error is the reason.
                    if self.session.is_ready() {
                        let facts = result.and_then(|rows| SessionFacts::from_rows(&rows));
                        self.outcome.record_result("connect", &facts);
                        self.over = facts.is_err();
                        self.waiting = "";
                    }
                }
                SessionEvent::Done { result: Ok(results), .. } if self.waiting == "query" => {
                    self.outcome.lines.push(show(&results));
                }
                SessionEvent::Done { result, .. } => {
                    self.outcome.record_result(self.waiting, &result);
                }
                SessionEvent::NotificationDropped(error) => {
                    self.outcome.lines.push(format!("gap: {error}"));
                }
                event => panic!("{event:?}"),
            }
        }
    }

    /// Does the next action. Returns whether there was one.
    fn next_action(&mut self) -> bool {
        if self.over || !self.session.is_ready() || self.session.commands_in_flight() > 0 {
            return false;
        }
        match self.actions.next() {
            Some(Action::Listen(channels)) => {
                self.waiting = "listen";
                self.session.listen(self.now, channels).unwrap();
            }
            Some(Action::Query(sql)) => {
                self.waiting = "query";
                self.session.simple_query(self.now, sql).unwrap();
            }
            Some(Action::Receive(_)) => {}
            Some(Action::Close) => {
                self.over = true;
                self.outcome.lines.push("close".to_owned());
                self.session.terminate();
            }
            None => return false,
        }
        true
    }
}
