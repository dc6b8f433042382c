//! A server with pgmq. Its SQL is in packages of crates.io, which are fetched and never built: testkit/pgmq.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgbell::durable::pgmq::{ConsumerBuilder, Job, Queue, RunningConsumer};
use pgbell::{Connection, WakeTask, WakeWorker, Wakeups};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::cargo::fetched_manifests;
use crate::support::{Server, TEST_TIMEOUT, value};

/// A version of pgmq whose SQL is in a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pgmq {
    V1_11,
    V1_13,
}

impl Pgmq {
    pub(crate) const ALL: [Self; 2] = [Self::V1_11, Self::V1_13];

    fn package(self) -> &'static str {
        match self {
            Self::V1_11 => "pgmq-0.33.0",
            Self::V1_13 => "pgmq-0.34.0-alpha.7",
        }
    }

    fn directory(self) -> PathBuf {
        let end = format!("/{}/Cargo.toml", self.package());
        let found = fetched_manifests("testkit/pgmq").into_iter().find(|one| one.ends_with(&end));
        let manifest =
            found.unwrap_or_else(|| panic!("{} is not in the lock file", self.package()));
        Path::new(&manifest).parent().unwrap().join("src/install/embedded/sql")
    }

    /// Returns the SQL that installs it.
    pub(crate) fn sql(self) -> String {
        fs::read_to_string(self.directory().join("pgmq.sql")).unwrap()
    }
}

/// Returns the SQL that updates pgmq from one version to the next.
pub(crate) fn update_sql(from: &str, to: &str) -> String {
    let name = format!("pgmq--{from}--{to}.sql");
    fs::read_to_string(Pgmq::V1_13.directory().join(name)).unwrap()
}

/// Creates a database with pgmq. Returns its URL.
pub(crate) async fn database(server: &Server, pgmq: Pgmq) -> String {
    let name = format!("{pgmq:?}").to_lowercase();
    let mut admin = server.connection().await;
    admin.simple_query(&format!("CREATE DATABASE {name}")).await.unwrap();
    admin.close().await;
    let cluster = &server.cluster;
    let url = cluster.url(cluster.superuser(), cluster.superuser_password(), &name);
    let mut session = Connection::connect(url.as_str()).await.unwrap();
    session.simple_query(&pgmq.sql()).await.unwrap();
    session.close().await;
    url
}

/// A server with pgmq, and a queue `jobs`.
pub(crate) struct Jobs {
    pub(crate) server: Server,
    pub(crate) url: String,
    pub(crate) queue: Queue,
}

impl Jobs {
    pub(crate) async fn new(server: Server) -> Self {
        Self::with(server, Pgmq::V1_13).await
    }

    pub(crate) async fn with(server: Server, pgmq: Pgmq) -> Self {
        let url = database(&server, pgmq).await;
        let queue = Queue::new("jobs").unwrap();
        let jobs = Self { server, url, queue };
        jobs.queue.create(&mut jobs.session().await).await.unwrap();
        jobs
    }

    /// A database that has pgmq and the queue already.
    pub(crate) fn of(server: Server, pgmq: Pgmq) -> Self {
        let cluster = &server.cluster;
        let name = format!("{pgmq:?}").to_lowercase();
        let url = cluster.url(cluster.superuser(), cluster.superuser_password(), &name);
        Self { url, server, queue: Queue::new("jobs").unwrap() }
    }

    /// A session of the superuser.
    pub(crate) async fn session(&self) -> Connection {
        Connection::connect(self.url.as_str()).await.unwrap()
    }

    /// Wake-ups on the channel `jobs_channel`, whose poll is ten minutes away, with their worker.
    pub(crate) async fn wakeups(&self) -> (Wakeups, WakeWorker) {
        let task = WakeTask::new("jobs").channel("jobs_channel").interval(Duration::from_secs(600));
        let wakeups = Wakeups::builder(self.url.as_str()).task(task).connect().await.unwrap();
        let worker = wakeups.worker("jobs").unwrap();
        (wakeups, worker)
    }

    /// Sends messages.
    pub(crate) async fn send(&self, session: &mut Connection, count: usize) -> Vec<i64> {
        let messages = vec!["{}"; count];
        self.queue.send_batch(session, messages, Duration::ZERO).await.unwrap()
    }

    /// The settings of a consumer that polls so seldom that only something else wakes it in time.
    pub(crate) fn consumer(&self) -> ConsumerBuilder {
        self.queue.consumer(self.url.as_str()).interval(Duration::from_secs(600))
    }

    /// Returns the ids in the queue and in the archive.
    pub(crate) async fn ids(&self, session: &mut Connection) -> (String, String) {
        let of = |table| {
            format!(
                "SELECT coalesce(string_agg(msg_id::text, ' ' ORDER BY msg_id), '') FROM pgmq.{table}_jobs"
            )
        };
        (value(session, &of("q")).await, value(session, &of("a")).await)
    }
}

/// Runs statements.
pub(crate) async fn sql(session: &mut Connection, text: &str) {
    session.simple_query(text).await.unwrap();
}

/// What the handler of a consumer has been called with.
pub(crate) struct Calls {
    calls: mpsc::UnboundedReceiver<Call>,
}

/// A call of the handler, which ends when the test says so.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) msg_id: i64,
    pub(crate) attempts: u32,
    pub(crate) message: String,
    end: oneshot::Sender<Result<(), String>>,
}

impl Call {
    pub(crate) fn succeed(self) {
        // The handler may have been cancelled.
        let _ = self.end.send(Ok(()));
    }

    pub(crate) fn fail(self, reason: &str) {
        let _ = self.end.send(Err(reason.to_owned()));
    }
}

impl Calls {
    /// Waits for the next call.
    pub(crate) async fn next(&mut self) -> Call {
        timeout(TEST_TIMEOUT, self.calls.recv()).await.expect("no job is handled").unwrap()
    }

    /// Lets the next calls succeed. Returns their ids.
    pub(crate) async fn succeed(&mut self, count: usize) -> Vec<i64> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let call = self.next().await;
            ids.push(call.msg_id);
            call.succeed();
        }
        ids
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}

/// Runs a consumer whose handler waits for the test.
pub(crate) async fn start(builder: ConsumerBuilder) -> (RunningConsumer, Calls) {
    let (sender, calls) = mpsc::unbounded_channel();
    let running = builder
        .run(move |job: Job| {
            let sender = sender.clone();
            async move {
                let (end, ended) = oneshot::channel();
                let (msg_id, attempts) = (job.msg_id(), job.attempts());
                let message = job.message().to_owned();
                sender.send(Call { msg_id, attempts, message, end }).unwrap();
                ended.await.unwrap_or_else(|_| Err("the test has ended".to_owned()))
            }
        })
        .await
        .unwrap();
    (running, Calls { calls })
}
