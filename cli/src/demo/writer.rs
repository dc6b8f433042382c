//! The demo's second connection: sends one by one, then in transactions, and counts what it committed.

use std::time::{Duration, Instant};

use pgbell::proto::auth::AuthMethod;
use pgbell::{Connection, Error, Notifier};
use tokio::sync::watch;
use tokio::time::timeout;

use super::server::Server;
use super::{BATCH, Plan};
use crate::exit::{Exit, Failure};

/// Object ids of `bigint` and `text` in `pg_type`.
const BIGINT: u32 = 20;
const TEXT: u32 = 25;

/// The longest time to wait for a notification before the next one is sent.
const ARRIVAL_MAX: Duration = Duration::from_secs(5);

/// Creates a table that the server removes at the end of the session.
const CREATE: &str = "CREATE TEMP TABLE pgbell_demo (sequence bigint PRIMARY KEY)";

/// Writes rows and their notifications in one transaction, so that committed notifications can be counted afterwards.
const WRITE: &str = "\
    WITH written AS ( \
        INSERT INTO pg_temp.pgbell_demo SELECT s FROM generate_series($1, $2) AS s \
        RETURNING sequence \
    ) \
    SELECT count(pg_notify($3, sequence || ' ' || $4)) \
    FROM (SELECT sequence FROM written ORDER BY sequence) AS written";

const COUNT: &str = "SELECT count(*), coalesce(max(sequence), 0) FROM pg_temp.pgbell_demo";

// A value is moved only once, into a task.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Writer {
    /// Writes into a table of the database too.
    Counted(Connection),
    /// Sends only notifications; the backend counts them.
    Plain(Notifier),
}

/// Facts about the server and the session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) version: Option<String>,
    pub(crate) auth: Option<AuthMethod>,
    pub(crate) process_id: i32,
}

/// What was sent.
#[derive(Debug)]
pub(crate) struct Sent {
    /// When the first was sent.
    pub(crate) since: Instant,
    /// When the first transaction of the batches was sent.
    pub(crate) batches_since: Instant,
    /// The number of rows in the table and the highest sequence number, if there is a table.
    pub(crate) rows: Option<(u64, u64)>,
}

impl Sent {
    /// Adds the count of the server: of the table, else of the backend.
    pub(crate) fn count(self, server: &Server, plan: &Plan) -> Counted {
        let committed = match self.rows {
            Some((rows, highest)) if highest == rows => Some(rows),
            // Rows are missing in between, so the number of rows means nothing.
            Some(_) => None,
            None => server.committed(&plan.channel),
        };
        Counted { since: self.since, batches_since: self.batches_since, committed }
    }
}

/// What was sent, and what the server counted.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) since: Instant,
    pub(crate) batches_since: Instant,
    pub(crate) committed: Option<u64>,
}

impl Writer {
    pub(crate) async fn connect(server: &Server) -> Result<(Self, Session), Failure> {
        let config = server.config()?;
        let connecting = |error: Error| Failure::connecting(&error);
        let mut connection = Connection::connect(&config).await.map_err(connecting)?;
        let process_id = connection.process_id().ok_or_else(|| {
            Failure::new(Exit::Connect, "the server sent no process id: is it behind a pooler?")
        })?;
        let mut session = Session {
            version: connection.parameter("server_version").map(str::to_owned),
            auth: connection.auth_method(),
            process_id,
        };
        if server.has_tables() {
            connection.simple_query(CREATE).await.map_err(|error| Failure::running(&error))?;
            return Ok((Self::Counted(connection), session));
        }
        connection.close().await;
        let notifier = Notifier::connect(config).await.map_err(connecting)?;
        session.process_id = notifier.process_id().unwrap_or(process_id);
        Ok((Self::Plain(notifier), session))
    }

    /// Sends everything, then the end notification, then counts the rows.
    pub(crate) async fn run(
        mut self,
        plan: Plan,
        mut arrived: watch::Receiver<u64>,
    ) -> Result<Sent, Failure> {
        let running = |error: Error| Failure::running(&error);
        let since = Instant::now();
        // After one notification that did not arrive there are no more waits. The receiver counts the lost ones.
        let mut lost = false;
        for sequence in 1..=plan.singles {
            self.send(&plan, sequence, sequence).await.map_err(running)?;
            if !lost {
                let arrival = arrived.wait_for(|arrived| *arrived >= sequence);
                lost = timeout(ARRIVAL_MAX, arrival).await.is_err();
            }
        }
        let batches_since = Instant::now();
        let mut first = plan.singles + 1;
        while first <= plan.count {
            let last = (first + BATCH - 1).min(plan.count);
            self.send(&plan, first, last).await.map_err(running)?;
            first = last + 1;
        }
        self.end(&plan.end).await.map_err(running)?;
        let rows = self.rows().await?;
        self.close().await;
        Ok(Sent { since, batches_since, rows })
    }

    /// Sends sequence numbers `first..=last` in one transaction.
    async fn send(&mut self, plan: &Plan, first: u64, last: u64) -> Result<(), Error> {
        let stamp = plan.stamp();
        match self {
            Self::Counted(connection) => {
                let (first, last, stamp) = (first.to_string(), last.to_string(), stamp.to_string());
                let parameters = [
                    (BIGINT, first.as_str()),
                    (BIGINT, &last),
                    (TEXT, &plan.channel),
                    (TEXT, &stamp),
                ];
                connection.query_typed(WRITE, &parameters).await.map(drop)
            }
            Self::Plain(notifier) if first == last => {
                notifier.notify(&plan.channel, format!("{first} {stamp}")).await
            }
            Self::Plain(notifier) => {
                let payload = |sequence| (plan.channel.as_str(), format!("{sequence} {stamp}"));
                notifier.notify_many((first..=last).map(payload)).await.map(drop)
            }
        }
    }

    async fn end(&mut self, channel: &str) -> Result<(), Error> {
        match self {
            Self::Counted(connection) => connection.notify(channel, "").await,
            Self::Plain(notifier) => notifier.notify(channel, "").await,
        }
    }

    async fn rows(&mut self) -> Result<Option<(u64, u64)>, Failure> {
        let Self::Counted(connection) = self else { return Ok(None) };
        let results =
            connection.simple_query(COUNT).await.map_err(|error| Failure::running(&error))?;
        let row = results.first().and_then(|rows| rows.get(0));
        let number = |column| row.and_then(|row| row.get(column)?.parse().ok());
        match (number(0), number(1)) {
            (Some(rows), Some(highest)) => Ok(Some((rows, highest))),
            _ => Err(Failure::new(Exit::Runtime, "the server did not count the writer's rows")),
        }
    }

    async fn close(self) {
        match self {
            Self::Counted(connection) => connection.close().await,
            Self::Plain(notifier) => notifier.close().await,
        }
    }
}

impl Counted {
    /// Returns the time of everything and the time of the batches alone, up to the last arrival.
    pub(crate) fn times(&self, last: Instant) -> (Duration, Duration) {
        (
            last.saturating_duration_since(self.since),
            last.saturating_duration_since(self.batches_since),
        )
    }
}
