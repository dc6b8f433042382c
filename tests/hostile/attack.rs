//! One hostile server against every client, cut into every kind of pieces.

use pgbell::proto::auth::AuthPolicy;
use pgbell::proto::session::Login;
use pgbell::testing::{Delivery, Script};
use tokio::runtime::{Builder, Handle, Runtime};

use super::client::{self, Do, Outcome, url};

/// Splits that are tried over sockets; of more, that many are taken evenly.
const SOCKET_SPLITS: usize = 40;

/// Splits that are tried in memory: all of them where a script is not long.
const SESSION_SPLITS: usize = 600;

/// From here on a script is too long to be written byte by byte.
const BYTE_BY_BYTE_MAX: usize = 4_096;

/// A hostile server, what its client does, and what must come of it.
#[derive(Clone)]
pub(crate) struct Attack {
    script: Script,
    todo: &'static [Do],
    /// How many bytes at the end of the script are the hostile ones.
    tail: usize,
    /// Where to split instead, for a script that computes what it says.
    splits: Option<std::ops::Range<usize>>,
    login: fn() -> Login,
    /// What a connection string says for the same login; `None` where none can.
    parameters: Option<&'static str>,
}

/// A client's part that listens to `a` and then receives.
pub(crate) const LISTEN: &[Do] = &[Do::Listen(&["a"])];

impl Attack {
    /// The script is the whole conversation, `tail` says how many bytes of it are hostile.
    pub(crate) fn new(script: Script, tail: usize, todo: &'static [Do]) -> Self {
        let (login, splits, parameters) = (client::login, None, Some(""));
        Self { script, todo, tail, splits, login, parameters }
    }

    pub(crate) fn script(&self) -> Script {
        self.script.clone()
    }

    /// Splits at these bytes of what the server says.
    pub(crate) fn splits(self, splits: std::ops::Range<usize>) -> Self {
        Self { splits: Some(splits), ..self }
    }

    /// In memory alone, with this login: what a connection string cannot ask for over a clear socket.
    pub(crate) fn login(self, login: fn() -> Login) -> Self {
        Self { login, parameters: None, ..self }
    }

    /// With this login in memory, and with these parameters, which ask for the same, over sockets.
    pub(crate) fn asking(self, login: fn() -> Login, parameters: &'static str) -> Self {
        Self { login, parameters: Some(parameters), ..self }
    }

    /// Runs it in every way. Each time the lines must be these, and the notifications too.
    ///
    /// A line `over: Protocol | text` stands for every line that begins with the one and holds the other.
    #[track_caller]
    pub(crate) fn run(&self, lines: &[&str], heard: &[&str]) {
        let check = |outcome: &Outcome, how: &str| {
            let fits = outcome.lines.len() == lines.len()
                && outcome.lines.iter().zip(lines).all(|(found, pattern)| is_like(found, pattern))
                && outcome.heard == heard;
            assert!(fits, "\n{how}\nexpected {lines:#?} {heard:?}\nfound    {outcome:#?}");
        };
        for delivery in self.session_deliveries() {
            let script = self.script.clone();
            let outcome = client::session((self.login)(), script, delivery, self.todo);
            check(&outcome, &format!("session, {delivery:?}"));
        }
        if self.parameters.is_some() {
            let runtime = runtime();
            for delivery in self.socket_deliveries() {
                runtime.block_on(async {
                    let (connection, listener) = self.over_sockets(delivery).await;
                    check(&connection, &format!("connection, {delivery:?}"));
                    check(&listener, &format!("listener, {delivery:?}"));
                });
            }
        }
    }

    /// What becomes of a `Connection` and of a `Listener`. They are gone then, with all that was theirs.
    pub(crate) async fn over_sockets(&self, delivery: Delivery) -> (Outcome, Outcome) {
        let url = |address| url(address) + self.parameters.unwrap_or_default();
        let (address, task) = self.script.clone().serve(delivery).await.unwrap();
        let connection = client::connection(&url(address), self.todo).await;
        let end = client::soon("script", task).await.unwrap();
        assert_eq!(end, Ok(()), "{delivery:?}: {connection:#?}");
        let (address, task) = self.script.clone().serve(delivery).await.unwrap();
        let listener = client::listener(&url(address), self.todo).await;
        let end = client::soon("script", task).await.unwrap();
        assert_eq!(end, Ok(()), "{delivery:?}: {listener:#?}");
        no_task_is_left().await;
        (connection, listener)
    }

    fn session_deliveries(&self) -> Vec<Delivery> {
        let total = self.script.sent_bytes();
        let splits = self.splits.clone().unwrap_or(1..total);
        deliveries(splits, SESSION_SPLITS, total)
    }

    fn socket_deliveries(&self) -> Vec<Delivery> {
        let total = self.script.sent_bytes();
        // One byte before the hostile ones, so that their first is cut off too.
        let splits = self.splits.clone().unwrap_or(total.saturating_sub(self.tail).max(1)..total);
        deliveries(splits, SOCKET_SPLITS, total)
    }
}

fn deliveries(splits: std::ops::Range<usize>, most: usize, total: usize) -> Vec<Delivery> {
    let step = splits.len().div_ceil(most).max(1);
    let mut all = vec![Delivery::Whole];
    if total <= BYTE_BY_BYTE_MAX {
        all.push(Delivery::ByteByByte);
    }
    all.extend(splits.step_by(step).map(Delivery::SplitAt));
    all
}

fn is_like(found: &str, pattern: &str) -> bool {
    match pattern.split_once(" | ") {
        Some((beginning, part)) => found.starts_with(beginning) && found.contains(part),
        None => found == pattern,
    }
}

/// One thread, so that a write and the read of what was written alternate.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// What the clients have started has ended with them.
pub(crate) async fn no_task_is_left() {
    client::soon("the end of all tasks", async {
        while Handle::current().metrics().num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap())
        .collect();
    assert!(digits.len().is_multiple_of(2), "half a byte");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A message with this type byte and body, whatever they are.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, body].concat()
}

// ---- where the hostile bytes stand ----

/// Instead of what a server says to a startup packet. The client must leave and have sent nothing.
#[track_caller]
pub(crate) fn at_login(bytes: &[u8], expect: &str) {
    let script = Script::new().expect_startup().send(bytes).wait_for_eof();
    Attack::new(script, bytes.len(), LISTEN).run(&[&format!("connect: {expect}")], &[]);
}

/// After AuthenticationOk.
#[track_caller]
pub(crate) fn after_authentication(bytes: &[u8], expect: &str) {
    let script = Script::new().expect_startup().send_hex("52 00000008 00000000").send(bytes);
    Attack::new(script.wait_for_eof(), bytes.len(), LISTEN)
        .run(&[&format!("connect: {expect}")], &[]);
}

/// To a client that listens and has heard A1. The client must leave and have sent nothing.
#[track_caller]
pub(crate) fn when_idle(bytes: &[u8], expect: &str) {
    let script = Script::listening().send(Script::A1).send(bytes).wait_for_eof();
    let attack = Attack::new(script, bytes.len(), LISTEN);
    attack.run(&["connect", "listen", &format!("over: {expect}")], &["1 a b"]);
}

/// In answer to LISTEN.
#[track_caller]
pub(crate) fn to_listen(bytes: &[u8], expect: &str) {
    let script = Script::ready().expect_message(b'Q').send(bytes).wait_for_eof();
    let attack = Attack::new(script, bytes.len(), LISTEN);
    attack.run(&["connect", &format!("listen: {expect}"), &format!("over: {expect}")], &[]);
}

/// In answer to a query. What became of it is in doubt.
#[track_caller]
pub(crate) fn to_query(bytes: &[u8], expect: &str) {
    let script = Script::ready().expect_message(b'Q').send(bytes).wait_for_eof();
    let attack = Attack::new(script, bytes.len(), &[Do::Query("SELECT 'x'")]);
    let (_, part) = expect.split_once(" | ").unwrap_or(("", expect));
    attack.run(&["connect", &format!("query: InDoubt | {part}"), &format!("over: {expect}")], &[]);
}

/// Up to ReadyForQuery, and nothing is wrong: the client goes on, listens, hears A1 and closes.
#[track_caller]
pub(crate) fn harmless_at_login(bytes: &[u8]) {
    let script =
        Script::new().expect_startup().send(bytes).expect_message(b'Q').send(Script::FACTS);
    let script = script.expect_message(b'Q').send(Script::ACK);
    let script = script.send(Script::A1).expect_hex("58 00000004").wait_for_eof();
    let todo = &[Do::Listen(&["a"]), Do::Receive(1), Do::Close];
    let tail = bytes.len() + Script::FACTS.len() + Script::ACK.len() + Script::A1.len();
    Attack::new(script, tail, todo).run(&["connect", "listen", "close"], &["1 a b"]);
}

/// A policy of the session's alone.
pub(crate) fn with_policy(policy: AuthPolicy) -> Login {
    client::login().policy(policy.scram_iterations_min(1))
}
