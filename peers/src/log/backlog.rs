//! Reading what waits: rows per second, and whether the time of a row grows with their number.

use std::time::Instant;

use pgbell::Connection;
use pgbell_testkit::Cluster;

use super::{LogJob, Role, on_runtime, outbox, server, settings, start};
use crate::many::Size;
use crate::matchup::{Kind, Matchup};
use crate::outcome::Outcome;
use crate::publishing::conninfo;
use crate::tally::print_line;

/// The sizes of a page that are compared. The first one is the default of a cursor.
const PAGE_SIZES: [u64; 3] = [1_000, 5_000, 10_000];

/// The records of a transaction that fills a log.
const TRANSACTION: u64 = 1_000;

/// The bytes of a payload.
const PAYLOAD: usize = 64;

/// Measures each size of a page.
pub(super) fn run(size: Size) -> Outcome<Vec<Matchup>> {
    let server = server().setting("max_wal_size", "4GB").start()?;
    let rows = size.amount([100_000, 1_000_000], [2_000, 20_000]);
    for rows in rows {
        on_runtime(fill(&server, rows))?;
    }
    let measure = |page_size: u64| {
        let kind = Kind::LogBacklog { few: rows[0], many: rows[1], page_size };
        let names = ["rows/s of the fewer", "rows/s of the more"];
        Matchup::contest(kind, size.rounds(5), &names, |index| {
            let arguments = [("count", rows[index]), ("page-size", page_size)];
            let mut child = start(Role::Backlog, server.port(), &arguments)?;
            let rate = child.value()?;
            child.finish()?;
            Ok(rate)
        })
    };
    Ok(PAGE_SIZES.into_iter().map(measure).collect())
}

/// The name of the log with this number of rows.
fn name(rows: u64) -> String {
    format!("log_{rows}")
}

/// Writes this number of rows into a log of their own.
async fn fill(server: &Cluster, rows: u64) -> Outcome<()> {
    let log = outbox(server.port(), &name(rows))?;
    log.init(&settings()).await?;
    let mut session = Connection::connect(&*conninfo(server.port(), "fill")).await?;
    for first in (0..rows).step_by(usize::try_from(TRANSACTION)?) {
        let last = (first + TRANSACTION).min(rows) - 1;
        let insert = format!(
            "INSERT INTO {} (key, payload) SELECT 'key ' || n % 1000, repeat('x', {PAYLOAD}) FROM generate_series({first}, {last}) AS n",
            name(rows)
        );
        session.simple_query(&insert).await?;
    }
    session.close().await;
    Ok(())
}

/// Reads everything that waits, with a new cursor, and acknowledges each page. Prints the rows per second.
pub(super) async fn read(job: &LogJob) -> Outcome<()> {
    let rows = job.job.count;
    let log = outbox(job.job.port, &name(rows))?;
    let cursor_name = format!("cursor {}", std::process::id());
    let builder = log.cursor(&cursor_name).page_size(job.page_size).rotate(false);
    let mut cursor = builder.open().await?;
    let (mut count, mut bytes, mut last) = (0, 0, 0);
    let begin = Instant::now();
    while count < rows {
        let batch = cursor.next().await?;
        for record in batch.iter() {
            if record.id() <= last {
                return Err(format!("the record {} is after {last}", record.id()).into());
            }
            last = record.id();
            count += 1;
            bytes += record.payload().len();
        }
        batch.ack().await?;
    }
    let took = begin.elapsed();
    if (count, bytes as u64) != (rows, rows * PAYLOAD as u64) {
        return Err(format!("{count} records with {bytes} bytes were received").into());
    }
    if cursor.try_next().await?.is_some() {
        return Err("a record was received that was not written".into());
    }
    cursor.close().await;
    log.drop_cursor(&cursor_name).await?;
    print_line(&(rows as f64 / took.as_secs_f64()))
}
