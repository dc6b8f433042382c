//! Servers, sessions and conditions for several tests.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_core::Stream;
use pgbell::{Batch, Connection, Error, Event, Listener, Loss, Notification, Notifier};
use pgbell_testkit::{Auth, Cluster, ClusterBuilder, Installation};

use crate::queries::FACTS_SQL;

/// The time limit for anything that must happen.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs a test with two workers, so that the library's tasks and the test run in parallel.
pub(crate) fn run(test: impl Future<Output = ()>) {
    run_for(2 * TEST_TIMEOUT, test);
}

/// Runs a test with a time limit.
pub(crate) fn run_for(longest: Duration, test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let test = Box::pin(test);
    runtime.block_on(async {
        tokio::time::timeout(longest, test).await.expect("the test did not end");
    });
}

/// A temporary server, and sessions of its superuser.
pub(crate) struct Server {
    pub(crate) cluster: Cluster,
}

impl Server {
    /// Starts the installed version with its defaults.
    pub(crate) fn start() -> Self {
        Self::with(|builder| builder)
    }

    /// Starts a server without passwords, unless the test sets another method: many tests count the messages of such a login.
    ///
    /// `PGBELL_MAJOR` selects a version of the matrix, for all tests that name none. The version is printed:
    /// `tests/promises/table.py` reads it.
    #[expect(clippy::print_stdout, reason = "the output of the test says what it ran on")]
    pub(crate) fn with(change: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Self {
        let mut builder = Cluster::builder().auth(Auth::Trust);
        if let Ok(major) = std::env::var("PGBELL_MAJOR") {
            builder = builder.installation(installation(major.parse().expect("PGBELL_MAJOR: 13")));
        }
        let cluster = change(builder).start().unwrap_or_else(|error| panic!("{error}"));
        println!("server: PostgreSQL {}", cluster.version());
        Self { cluster }
    }

    /// Starts a server that logs every statement, with the process id before it.
    pub(crate) fn logging() -> Self {
        Self::with(|builder| {
            builder.setting("log_statement", "all").setting("log_line_prefix", "%p ")
        })
    }

    /// Starts a server of the matrix.
    pub(crate) fn of(major: u32) -> Self {
        Self::with(|builder| builder.installation(installation(major)))
    }

    pub(crate) fn url(&self) -> String {
        self.cluster.url_for_superuser()
    }

    pub(crate) async fn connection(&self) -> Connection {
        shown(Connection::connect(self.url()).await.unwrap())
    }

    pub(crate) async fn listener(&self, channels: &[&str]) -> Listener {
        let channels = channels.iter().copied();
        shown(Listener::builder(self.url()).channels(channels).connect().await.unwrap())
    }

    /// Returns a listener that ends with its session.
    pub(crate) async fn listener_of_one_session(&self, channels: &[&str]) -> Listener {
        let builder = Listener::builder(self.url()).channels(channels.iter().copied());
        builder.reconnect(false).connect().await.unwrap()
    }

    pub(crate) async fn notifier(&self) -> Notifier {
        shown(Notifier::connect(self.url()).await.unwrap())
    }

    /// Returns the statements that a session has begun, one for each Query or Execute message. The server
    /// writes them to its log before it executes them.
    pub(crate) fn statements_of(&self, process_id: Option<i32>) -> Vec<String> {
        let process_id = process_id.unwrap();
        let starts = ["statement: ", "execute <unnamed>: "];
        let starts = starts.map(|start| format!("{process_id} LOG:  {start}"));
        let log = self.cluster.log();
        log.lines()
            .filter_map(|line| starts.iter().find_map(|start| line.strip_prefix(start.as_str())))
            // The first query of every client that listens.
            .filter(|statement| *statement != FACTS_SQL)
            .map(str::to_owned)
            .collect()
    }
}

/// Printed values are searched for passwords: see `tests/planted`.
#[expect(clippy::print_stdout, reason = "that is what it is for")]
fn shown<T: std::fmt::Debug>(what: T) -> T {
    println!("{what:?}");
    what
}

pub(crate) fn installation(major: u32) -> Installation {
    let matrix = Installation::matrix().unwrap_or_else(|error| panic!("{error}"));
    matrix.into_iter().find(|one| one.major() == major).unwrap()
}

// ---- conditions ----

/// Repeats a check until it succeeds, and fails at a deadline.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Repeats a query until the server answers `true`.
pub(crate) async fn until_sql(connection: &mut Connection, sql: &str) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while value(connection, sql).await != "t" {
        assert!(Instant::now() < deadline, "never happened: {sql}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until a session waits for a lock, so it is executing a statement.
pub(crate) async fn until_blocked(connection: &mut Connection, process_id: Option<i32>) {
    let process_id = process_id.unwrap();
    let sql =
        format!("SELECT EXISTS (SELECT FROM pg_locks WHERE pid = {process_id} AND NOT granted)");
    until_sql(connection, &sql).await;
}

/// Waits until a session is no longer in the server's list.
pub(crate) async fn until_gone(connection: &mut Connection, process_id: Option<i32>) {
    let process_id = process_id.unwrap();
    let sql = format!("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {process_id})");
    until_sql(connection, &sql).await;
}

/// Waits until this number of notifications was read from the socket, including dropped ones.
pub(crate) async fn until_received(listener: &Listener, count: u64) {
    until("notifications were received", || listener.stats().received >= count).await;
    assert_eq!(listener.stats().received, count);
}

/// Polls a future once. Returns `None` if it is pending.
pub(crate) async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

// ---- sending ----

/// Returns the first value of the first row.
pub(crate) async fn value(connection: &mut Connection, sql: &str) -> String {
    let results = connection.simple_query(sql).await.unwrap();
    results[0].get(0).unwrap().get(0).unwrap().to_owned()
}

/// Sends the numbers from `first` to `last` as payloads, in one transaction.
pub(crate) async fn send_numbers(
    connection: &mut Connection,
    channel: &str,
    first: u64,
    last: u64,
) {
    let sql = "SELECT count(pg_notify($1, i::text)) FROM generate_series($2::int, $3::int) i";
    let (first, last) = (first.to_string(), last.to_string());
    connection.query(sql, &[Some(channel), Some(&first), Some(&last)]).await.unwrap();
}

// ---- receiving ----

/// Parses a payload that is a number.
pub(crate) fn number(payload: &[u8]) -> u64 {
    std::str::from_utf8(payload).unwrap().parse().unwrap()
}

/// Returns the next item of the listener as a stream.
pub(crate) async fn next_item(listener: &mut Listener) -> Option<Result<Event, Error>> {
    poll_fn(|cx| Pin::new(&mut *listener).poll_next(cx)).await
}

/// Returns the next event, which must be a notification.
pub(crate) async fn next(listener: &mut Listener) -> Notification {
    match tokio::time::timeout(TEST_TIMEOUT, listener.recv())
        .await
        .expect("nothing arrives")
        .unwrap()
    {
        Event::Notification(notification) => notification,
        loss => panic!("expected a notification, found {loss:?}"),
    }
}

/// Returns the numbers of the next event, which must be `Lagged`: dropped notifications, and the first of them.
pub(crate) async fn next_lagged(listener: &mut Listener) -> (u64, u64) {
    match tokio::time::timeout(TEST_TIMEOUT, listener.recv())
        .await
        .expect("nothing arrives")
        .unwrap()
    {
        Event::Lagged(lagged) => (lagged.first_sequence(), lagged.count()),
        other => panic!("expected Lagged, found {other:?}"),
    }
}

/// Returns channels and payloads up to the payload `end`, which is left out.
pub(crate) async fn up_to_end(listener: &mut Listener) -> Vec<(String, String)> {
    let mut found = Vec::new();
    loop {
        let notification = next(listener).await;
        let payload = notification.payload();
        if payload == "end" {
            return found;
        }
        found.push((notification.channel().to_owned(), payload.to_owned()));
    }
}

/// Receives the numbers from `first` to `last`, in order and without a loss.
pub(crate) async fn expect_numbers(listener: &mut Listener, first: u64, last: u64) {
    for expect in first..=last {
        assert_eq!(number(next(listener).await.payload_bytes()), expect);
    }
}

/// Returns the next batch of a connection. There must be no loss before it.
pub(crate) async fn next_batch(connection: &mut Connection) -> Batch<'_> {
    let batch = connection.recv_batch();
    let batch = tokio::time::timeout(TEST_TIMEOUT, batch).await.expect("nothing arrives").unwrap();
    assert!(batch.loss().is_none(), "{:?}", batch.loss());
    batch
}

/// Receives this number of notifications on a connection, without a loss.
pub(crate) async fn receive(connection: &mut Connection, count: usize) -> Vec<Notification> {
    let mut found = Vec::new();
    while found.len() < count {
        found.extend(next_batch(connection).await.iter().map(|n| n.to_owned()));
    }
    assert_eq!(found.len(), count);
    found
}

/// Returns the whole text of an error with all its causes.
pub(crate) fn all_text(error: &Error) -> String {
    let parts = format!("{error:#?}").replace('\n', " ");
    let mut text = format!("{error} {error:?} {parts}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(" {cause} {cause:?}"));
        source = cause.source();
    }
    shown(text)
}

/// Returns how many notifications were lost before the batch.
pub(crate) fn lagged(batch: &Batch<'_>) -> u64 {
    match batch.loss() {
        None => 0,
        Some(Loss::Lagged(lagged)) => lagged.count(),
        Some(loss) => panic!("expected Lagged or nothing, found {loss:?}"),
    }
}
