//! A mirror of a table: the time from a commit to the new value of one row, and the rows per second of a load.

use std::time::{Duration, Instant};

use pgbell::durable::{Mirror, MirrorRow, MirrorSource};
use pgbell::{Connection, Notifier};
use pgbell_testkit::Cluster;
use tokio::time::{sleep, timeout};

use super::{INTERVAL, QueueJob, Role, start};
use crate::many::Size;
use crate::matchup::{Kind, Matchup};
use crate::outcome::Outcome;
use crate::publishing::{conninfo, median, sessions};
use crate::tally::print_line;

/// The rows of the table.
const ROWS: u64 = 100_000;

/// The table, and its channel.
const TABLE: &str = "orders";

/// The pause before each change, in which the system is idle.
const PAUSE: Duration = Duration::from_millis(20);

/// The longest time in which a change must be in the mirror.
const LIMIT: Duration = Duration::from_secs(30);

/// A row in memory.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    status: String,
    pieces: u32,
}

impl Order {
    fn decode(row: MirrorRow<'_>) -> Result<Self, pgbell::Error> {
        Ok(Self { status: row.parse("status")?, pieces: row.parse("pieces")? })
    }
}

/// Creates the table.
pub(super) fn fill(server: &Cluster) -> Outcome<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut session = Connection::connect(&*conninfo(server.port(), "fill")).await?;
        let create = format!(
            "CREATE TABLE {TABLE} (id bigint PRIMARY KEY, status text NOT NULL, pieces integer NOT NULL);
            INSERT INTO {TABLE} SELECT n, 'ordered ' || n, n % 100 FROM generate_series(1, {ROWS}) AS n"
        );
        session.simple_query(&create).await?;
        session.simple_query(&format!("VACUUM ANALYZE {TABLE}")).await?;
        session.close().await;
        Ok(())
    })
}

pub(super) fn refreshes(server: &Cluster, size: Size) -> Matchup {
    let roles = [Role::MirrorRefreshNotified, Role::MirrorRefreshNudged];
    let names = ["notification of the transaction", "nudge"];
    let kind = Kind::MirrorRefresh { rows: ROWS };
    Matchup::contest(kind, size.rounds(5), &names, |index| {
        measure(roles[index], server, size.amount(200, 10))
    })
}

pub(super) fn reloads(server: &Cluster, size: Size) -> Matchup {
    let roles = [Role::MirrorReload, Role::MirrorReloadChanged];
    let names = ["rows/s, nothing has changed", "rows/s, all have changed"];
    let kind = Kind::MirrorReload { rows: ROWS };
    Matchup::contest(kind, size.rounds(5), &names, |index| {
        measure(roles[index], server, size.amount(10, 2))
    })
}

fn measure(role: Role, server: &Cluster, count: u64) -> Outcome<f64> {
    let mut child = start(role, server.port(), &[("count", count)])?;
    let median = child.value()?;
    child.finish()?;
    Ok(median)
}

async fn load(job: &QueueJob) -> Outcome<Mirror<Order>> {
    let source = MirrorSource::table(TABLE, "id");
    let builder = Mirror::builder(&*job.conninfo("mirror"), source);
    let mirror = builder.channel(TABLE).interval(INTERVAL).load(Order::decode).await?;
    // The first wake-up of its listening session is a load.
    let loads = mirror.stats().loads;
    let second = async {
        while mirror.stats().loads == loads {
            sleep(PAUSE).await;
        }
    };
    let _ = timeout(Duration::from_secs(1), second).await;
    match mirror.len() as u64 {
        ROWS => Ok(mirror),
        found => Err(format!("{found} rows are in the mirror").into()),
    }
}

/// Changes a row, again and again. Prints the median time from the return of the commit to the new value, in milliseconds.
pub(super) async fn refresh(role: Role, job: &QueueJob) -> Outcome<()> {
    let mirror = load(job).await?;
    let notifier = Notifier::connect(&*job.conninfo("notifier")).await?;
    let client = sessions::open(&job.conninfo("writer")).await?;
    let update = format!("UPDATE {TABLE} SET status = $2 WHERE id = $1");
    let sql = match role {
        Role::MirrorRefreshNotified => format!(
            "WITH changed AS ({update} RETURNING id) SELECT pg_notify('{TABLE}', id::text) FROM changed"
        ),
        _ => update,
    };
    let update = client.prepare(&sql).await?;
    let loads = mirror.stats().loads;
    let mut delays = Vec::new();
    for number in 0..job.job.count {
        sleep(PAUSE).await;
        // Rows of the whole table.
        let id = 1 + number * 7_919 % ROWS;
        let key = id.to_string();
        let status = format!("shipped by {}, {number}", std::process::id());
        let mut watch = mirror.watch_key(&key);
        client.execute(&update, &[&i64::try_from(id)?, &status]).await?;
        let committed = Instant::now();
        if role == Role::MirrorRefreshNudged {
            notifier.nudge(TABLE, &key);
        }
        let changed = timeout(LIMIT, watch.changed()).await;
        let changed = changed.map_err(|_| "a change is not in the mirror")??;
        delays.push(committed.elapsed().as_secs_f64() * 1e3);
        if changed.is_none_or(|order| order.status != status) {
            return Err(format!("the mirror has another status of {key}").into());
        }
    }
    if mirror.stats().loads != loads {
        return Err("the mirror has read all rows".into());
    }
    mirror.close().await;
    print_line(&median(delays)?)
}

/// Reads all rows, again and again. Prints the median rows per second.
pub(super) async fn reload(role: Role, job: &QueueJob) -> Outcome<()> {
    let mirror = load(job).await?;
    let mut session = Connection::connect(&*job.conninfo("writer")).await?;
    let mut rates = Vec::new();
    for _ in 0..job.job.count {
        if role == Role::MirrorReloadChanged {
            let update = format!("UPDATE {TABLE} SET pieces = (pieces + 1) % 100");
            session.simple_query(&update).await?;
            // Without the old rows the table has the same size in each round.
            session.simple_query(&format!("VACUUM FULL {TABLE}")).await?;
        }
        let before = mirror.stats();
        let begin = Instant::now();
        mirror.reload().await?;
        let took = begin.elapsed();
        let after = mirror.stats();
        let changes = if role == Role::MirrorReloadChanged { ROWS } else { 0 };
        let found = (after.loads - before.loads, after.changes - before.changes);
        if found != (1, changes) {
            return Err(
                format!("1 load with {changes} changes was expected, found {found:?}").into()
            );
        }
        rates.push(ROWS as f64 / took.as_secs_f64());
    }
    mirror.close().await;
    print_line(&median(rates)?)
}
