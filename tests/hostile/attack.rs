//! One hostile server against every client, its bytes split in every way.

use pgbell::proto::auth::AuthPolicy;
use pgbell::proto::session::Login;
use pgbell::testing::{Delivery, Script};
use tokio::runtime::{Builder, Handle, Runtime};

use super::client::{self, Action, Outcome, url};

/// The highest number of splits that are tried over sockets. If there are more, this many are chosen at even distances.
const SOCKET_SPLITS: usize = 40;

/// The highest number of splits that are tried in memory. A short script is split at every byte.
const SESSION_SPLITS: usize = 600;

/// A script of this length or longer is not written byte by byte.
const BYTE_BY_BYTE_MAX: usize = 4_096;

/// A hostile server, the actions of its client, and the expected outcome.
#[derive(Clone)]
pub(crate) struct Attack {
    script: Script,
    actions: &'static [Action],
    /// The number of hostile bytes at the end of the script.
    tail: usize,
    /// Where to split instead, for a script that computes its bytes.
    splits: Option<std::ops::Range<usize>>,
    login: fn() -> Login,
    /// The parameters of a connection string for the same login; `None` if there are none.
    parameters: Option<&'static str>,
}

/// The actions of a client that listens to `a` and then receives.
pub(crate) const LISTEN: &[Action] = &[Action::Listen(&["a"])];

impl Attack {
    /// An attack whose script is the whole conversation. The last `tail` bytes of it are hostile.
    pub(crate) fn new(script: Script, tail: usize, actions: &'static [Action]) -> Self {
        let (login, splits, parameters) = (client::login, None, Some(""));
        Self { script, actions, tail, splits, login, parameters }
    }

    pub(crate) fn script(&self) -> Script {
        self.script.clone()
    }

    /// Splits at these positions of the server's bytes.
    pub(crate) fn splits(self, splits: std::ops::Range<usize>) -> Self {
        Self { splits: Some(splits), ..self }
    }

    /// Runs in memory only, with this login, which a connection string cannot ask for over a socket without TLS.
    pub(crate) fn login(self, login: fn() -> Login) -> Self {
        Self { login, parameters: None, ..self }
    }

    /// Uses this login in memory, and these parameters, which ask for the same, over sockets.
    pub(crate) fn asking(self, login: fn() -> Login, parameters: &'static str) -> Self {
        Self { login, parameters: Some(parameters), ..self }
    }

    /// Runs the attack in every way. Each time these lines and these notifications must come out.
    ///
    /// A line `over: Protocol | text` matches every line that begins with the first part and contains the second.
    #[track_caller]
    pub(crate) fn run(&self, lines: &[&str], received: &[&str]) {
        let check = |outcome: &Outcome, how: &str| {
            let fits = outcome.lines.len() == lines.len()
                && outcome.lines.iter().zip(lines).all(|(found, pattern)| is_like(found, pattern))
                && outcome.received == received;
            assert!(fits, "\n{how}\nexpected {lines:#?} {received:?}\nfound    {outcome:#?}");
        };
        for delivery in self.session_deliveries() {
            let script = self.script.clone();
            let outcome = client::session((self.login)(), script, delivery, self.actions);
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

    /// Returns the outcome of a `Connection` and of a `Listener`. Both are dropped by then.
    pub(crate) async fn over_sockets(&self, delivery: Delivery) -> (Outcome, Outcome) {
        let url = |address| url(address) + self.parameters.unwrap_or_default();
        let (address, task) = self.script.clone().serve(delivery).await.unwrap();
        let connection = client::connection(&url(address), self.actions).await;
        let end = client::soon("script", task).await.unwrap();
        assert_eq!(end, Ok(()), "{delivery:?}: {connection:#?}");
        let (address, task) = self.script.clone().serve(delivery).await.unwrap();
        let listener = client::listener(&url(address), self.actions).await;
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
        // The range starts one byte before the hostile ones, so that their first byte is split off too.
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

/// A runtime with one thread, so that a write and the read of its bytes alternate.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Waits until every task that the clients have started has ended.
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
    assert!(digits.len().is_multiple_of(2), "an odd number of digits");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A message with this type byte and body, valid or not.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, body].concat()
}

// ---- the position of the hostile bytes ----

/// Sends `bytes` in place of the answer to the startup packet. The client must close the connection, and send nothing before.
#[track_caller]
pub(crate) fn at_login(bytes: &[u8], expect: &str) {
    let script = Script::new().expect_startup().send(bytes).wait_for_eof();
    Attack::new(script, bytes.len(), LISTEN).run(&[&format!("connect: {expect}")], &[]);
}

/// Sends `bytes` after AuthenticationOk.
#[track_caller]
pub(crate) fn after_authentication(bytes: &[u8], expect: &str) {
    let script = Script::new().expect_startup().send_hex("52 00000008 00000000").send(bytes);
    Attack::new(script.wait_for_eof(), bytes.len(), LISTEN)
        .run(&[&format!("connect: {expect}")], &[]);
}

/// Sends `bytes` to a client that listens and has received A1. The client must close the connection, and send nothing before.
#[track_caller]
pub(crate) fn when_idle(bytes: &[u8], expect: &str) {
    let script = Script::listening().send(Script::A1).send(bytes).wait_for_eof();
    let attack = Attack::new(script, bytes.len(), LISTEN);
    attack.run(&["connect", "listen", &format!("over: {expect}")], &["1 a b"]);
}

/// Sends `bytes` as the answer to LISTEN.
#[track_caller]
pub(crate) fn to_listen(bytes: &[u8], expect: &str) {
    let script = Script::ready().expect_message(b'Q').send(bytes).wait_for_eof();
    let attack = Attack::new(script, bytes.len(), LISTEN);
    attack.run(&["connect", &format!("listen: {expect}"), &format!("over: {expect}")], &[]);
}

/// Sends `bytes` as the answer to a query. The query is in doubt.
#[track_caller]
pub(crate) fn to_query(bytes: &[u8], expect: &str) {
    let script = Script::ready().expect_message(b'Q').send(bytes).wait_for_eof();
    let attack = Attack::new(script, bytes.len(), &[Action::Query("SELECT 'x'")]);
    let (_, part) = expect.split_once(" | ").unwrap_or(("", expect));
    attack.run(&["connect", &format!("query: InDoubt | {part}"), &format!("over: {expect}")], &[]);
}

/// Sends valid `bytes` before ReadyForQuery. The client continues, listens, receives A1 and closes.
#[track_caller]
pub(crate) fn harmless_at_login(bytes: &[u8]) {
    let script =
        Script::new().expect_startup().send(bytes).expect_message(b'Q').send(Script::FACTS);
    let script = script.expect_message(b'Q').send(Script::ACK);
    let script = script.send(Script::A1).expect_hex("58 00000004").wait_for_eof();
    let actions = &[Action::Listen(&["a"]), Action::Receive(1), Action::Close];
    let tail = bytes.len() + Script::FACTS.len() + Script::ACK.len() + Script::A1.len();
    Attack::new(script, tail, actions).run(&["connect", "listen", "close"], &["1 a b"]);
}

/// A login with this policy, for a session in memory.
pub(crate) fn with_policy(policy: AuthPolicy) -> Login {
    client::login().policy(policy.scram_iterations_min(1))
}
