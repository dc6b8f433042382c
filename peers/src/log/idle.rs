//! What a cursor executes while nothing is written.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{LogJob, Role, outbox, server, settings, start};
use crate::many::Size;
use crate::matchup::{Kind, Matchup};
use crate::outcome::Outcome;
use crate::queries::HEARTBEAT_SQL;
use crate::tally::{print_line, print_ready};

/// The log, and the name of the sessions of its cursor.
const LOG: &str = "outbox";

/// The beginning of a poll.
const POLL: &str = "SELECT * FROM \"public\".\"outbox_read\"(";

/// The interval of the polls.
const INTERVAL: Duration = Duration::from_millis(250);

/// How long the cursor has waited.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Waited {
    took_ms: u64,
}

/// Counts the statements in the log of the server.
pub(super) fn statements(size: Size) -> Matchup {
    let server = server()
        .setting("log_statement", "all")
        .setting("log_line_prefix", "%a ")
        .start()
        .map_err(|error| error.to_string());
    // Longer than the interval of the heartbeat, and than a third of the lease, after which a poll renews it.
    let seconds = size.amount(12, 1);
    let names = ["beyond the polls", "polls", "heartbeats"];
    Matchup::together(Kind::LogIdle { seconds }, size.rounds(3), names, || {
        let server = server.as_ref().map_err(Clone::clone)?;
        let mut child =
            start(Role::Idle, server.port(), &[("count", 0), ("millis", seconds * 1_000)])?;
        child.wait_until_ready()?;
        let begin = server.log().len();
        let Waited { took_ms } = child.value()?;
        let log = server.log();
        child.finish()?;
        let found = Statements::read(log.get(begin..).unwrap_or_default());
        let interval = u64::try_from(INTERVAL.as_millis())?;
        let most = took_ms.div_ceil(interval) + 1;
        if found.polls < took_ms / interval / 2 {
            return Err(format!("the cursor does not poll: {found:?}").into());
        }
        let beyond = found.polls.saturating_sub(most) + found.others;
        Ok([beyond, found.polls, found.heartbeats].map(|count| count as f64))
    })
}

/// The statements in a part of the log.
#[derive(Debug, Default, PartialEq, Eq)]
struct Statements {
    polls: u64,
    heartbeats: u64,
    others: u64,
}

impl Statements {
    fn read(log: &str) -> Self {
        let mut all = Self::default();
        for line in log.lines() {
            let Some((session, rest)) = line.split_once(" LOG:  ") else { continue };
            // `statement: …` for a simple query, `execute name: …` for others.
            let sql = match rest.split_once(": ") {
                Some(("statement", sql)) => sql,
                Some((how, sql)) if how.starts_with("execute ") => sql,
                _ => continue,
            };
            let count = match session {
                LOG if sql.starts_with(POLL) => &mut all.polls,
                LOG if sql == HEARTBEAT_SQL => &mut all.heartbeats,
                _ => &mut all.others,
            };
            *count += 1;
        }
        all
    }
}

/// Waits while nothing is written.
pub(super) async fn play(job: &LogJob) -> Outcome<()> {
    let log = outbox(job.job.port, LOG)?;
    log.init(&settings()).await?;
    let mut cursor = log.cursor("reader").interval(INTERVAL).open().await?;
    // The first polls find the position of the cursor.
    let is_empty = cursor.try_next().await?.is_none();
    let was_woken = tokio::time::timeout(4 * INTERVAL, cursor.next()).await.is_ok();
    print_ready()?;
    let begin = Instant::now();
    let found = tokio::time::timeout(job.duration(), cursor.next()).await;
    if !is_empty || was_woken || found.is_ok() {
        return Err("a record was received that was not written".into());
    }
    let took_ms = u64::try_from(begin.elapsed().as_millis())?;
    print_line(&Waited { took_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_of_a_cursor_are_counted_by_their_kinds() {
        let log = format!(
            "[unknown] LOG:  database system is ready\n\
             outbox LOG:  execute <unnamed>: {POLL}$1)\n\
             outbox DETAIL:  parameters: $1 = '100'\n\
             outbox LOG:  statement: {HEARTBEAT_SQL}\n\
             outbox LOG:  execute <unnamed>: SELECT \"public\".\"outbox_ack\"($1)\n\
             other LOG:  statement: {HEARTBEAT_SQL}\n"
        );
        let expected = Statements { polls: 1, heartbeats: 1, others: 2 };
        assert_eq!(Statements::read(&log), expected);
    }
}
