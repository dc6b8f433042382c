//! The memory of a notifier whose server sleeps, while many calls wait.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pgbell::{Connection, Notifier};
use pgbell_testkit::{Auth, Cluster, Signal};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::arrivals::CHANNEL;
use super::{PublishingJob, Role, conninfo, start};
use crate::many::Size;
use crate::matchup::{Kind, Matchup};
use crate::outcome::{Failure, Outcome};
use crate::tally::{print_line, print_ready};
use crate::usage::peak_rss_kib;

/// The tasks that call `notify`: more than the queue has room for.
const CALLERS: u64 = 40_000;

/// The tasks that call `notify_many`: the queue has room for all of them. Others would wait with their arguments, which are encoded.
const GROUP_CALLERS: u64 = 1_000;

/// The nudges: all with keys of their own, on some channels.
const NUDGES: u64 = 1_000_000;
const NUDGE_CHANNELS: u64 = 8;

/// The default of `NotifierBuilder::queue_bytes`.
const QUEUE_BYTES: u64 = 8 * 1024 * 1024;

/// The documented limits of the nudges that wait: of their keys, and of their channels.
const KEYS_BYTES: u64 = 1024 * 1024;
const CHANNELS_BYTES: u64 = 1_024 * 63;

/// The documented limit of a group, in bytes and in calls.
const GROUP_BYTES: u64 = 256 * 1024;
const GROUP_CALLS: u64 = 1_000;

/// Longer than the server sleeps.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// The name of the notifier's sessions.
const NOTIFIER: &str = "notifier";

/// How long the memory is watched after all tasks have called.
const WATCHED: Duration = Duration::from_millis(500);

/// The notifications of a call of `notify_many`, and the bytes of a long payload. Each byte is one that is escaped.
const GROUP: usize = 8;
const LONG_BYTES: usize = 400;

/// The memory that the calls have taken, in bytes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Taken {
    bytes: u64,
}

/// The calls that were committed when the server went on. A nudge that was coalesced counts too.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Committed {
    calls: u64,
}

/// Returns what `NotifierBuilder` documents for a group that is being encoded.
fn group_bytes() -> u64 {
    4 * (GROUP_BYTES + 3 * GROUP_CALLS)
}

/// Returns what it documents for calls: the queue, the encoded commands, and a group.
fn calls_bytes() -> u64 {
    QUEUE_BYTES + 4 * QUEUE_BYTES + group_bytes()
}

/// Returns what it documents for nudges: those that wait, those that were sent, and a group.
fn nudges_bytes() -> u64 {
    2 * (KEYS_BYTES + CHANNELS_BYTES) + group_bytes()
}

pub(super) fn memory(size: Size) -> Matchup {
    let callers = size.amount(CALLERS, 2_000);
    let nudges = size.amount(NUDGES, 20_000);
    let counts = [callers, callers, size.amount(GROUP_CALLERS, 50), nudges];
    let server = Cluster::builder().auth(Auth::Trust).setting("autovacuum", "off").start();
    let roles = [Role::AsleepShort, Role::AsleepLong, Role::AsleepGroups, Role::AsleepNudges];
    let names =
        ["notify, 8 B", "notify, 400 B to escape", "notify_many, 8 × 400 B to escape", "nudge"];
    let kind = Kind::Asleep { callers, nudges };
    Matchup::contest(kind, size.rounds(3), &names, |index| {
        let server = server.as_ref().map_err(ToString::to_string)?;
        let formula = if index == 3 { nudges_bytes() } else { calls_bytes() };
        Ok(measure(roles[index], server, counts[index])? as f64 / formula as f64)
    })
}

/// Stops the backends of a notifier, and returns the bytes that its calls take meanwhile.
fn measure(role: Role, server: &Cluster, calls: u64) -> Outcome<u64> {
    let mut child = start(role, server.port(), calls, 0)?;
    child.wait_until_ready()?;
    let backends = backends(server)?;
    let signal = |signal: Signal| {
        backends.iter().try_for_each(|process_id| server.signal_backend(*process_id, signal))
    };
    signal(Signal::Stop)?;
    writeln!(child.input.as_mut().ok_or("a process without input")?, "stopped")?;
    let taken: Outcome<Taken> = child.value();
    signal(Signal::Cont)?;
    let taken = taken?;
    let committed: Committed = child.value()?;
    child.finish()?;
    if committed.calls != calls {
        return Err(format!("{} of {calls} calls were committed", committed.calls).into());
    }
    Ok(taken.bytes)
}

/// Returns the process ids of the notifier's sessions.
fn backends(server: &Cluster) -> Outcome<Vec<i32>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut session = Connection::connect(&*conninfo(server.port(), "parent")).await?;
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE application_name = '{NOTIFIER}'");
        let results = session.simple_query(&sql).await?;
        let rows = results.iter().flat_map(|rows| rows.iter());
        let all = rows.filter_map(|row| row.get(0)).map(|pid| Ok(pid.parse()?)).collect();
        session.close().await;
        all
    })
}

/// Calls with many tasks while the server sleeps. The tasks are there before the memory is read first, so that it is the
/// notifier's alone.
pub(super) async fn call(role: Role, job: &PublishingJob) -> Outcome<()> {
    let callers = usize::try_from(job.job.count)?;
    let notifier = notifier(job).await?;
    let (open, gate) = watch::channel(false);
    let (ready, called) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tasks = (0..callers).map(|caller| {
        let (notifier, mut gate) = (notifier.clone(), gate.clone());
        let (ready, called) = (ready.clone(), called.clone());
        tokio::spawn(async move {
            // The arguments are those of the caller.
            let payload = match role {
                Role::AsleepShort => format!("{caller:08}"),
                _ => format!("{caller:08}{}", "\"".repeat(LONG_BYTES - 8)),
            };
            ready.fetch_add(1, Ordering::Relaxed);
            drop(gate.wait_for(|is_open| *is_open).await?);
            called.fetch_add(1, Ordering::Relaxed);
            if role == Role::AsleepGroups {
                notifier.notify_many([(CHANNEL, &payload); GROUP]).await?;
            } else {
                notifier.notify(CHANNEL, &payload).await?;
            }
            Ok::<(), Failure>(())
        })
    });
    let tasks: Vec<_> = tasks.collect();
    while ready.load(Ordering::Relaxed) < callers {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    wait_until_stopped().await?;
    let before = memory_bytes()?;
    open.send(true)?;
    while called.load(Ordering::Relaxed) < callers {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(WATCHED).await;
    say(&Taken { bytes: memory_bytes()? - before })?;
    let mut committed = 0;
    for task in tasks {
        task.await??;
        committed += 1;
    }
    notifier.close().await;
    print_line(&Committed { calls: committed })
}

/// Nudges while the server sleeps.
pub(super) async fn nudge(job: &PublishingJob) -> Outcome<()> {
    let notifier = notifier(job).await?;
    let is_committed = |count: u64| {
        let stats = notifier.stats();
        stats.nudges_coalesced + stats.nudges_committed == count
    };
    // The first one opens the session, and belongs to none of the others.
    notifier.nudge(CHANNEL, "");
    while !is_committed(1) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    wait_until_stopped().await?;
    let before = memory_bytes()?;
    for number in 0..job.job.count {
        notifier.nudge(&format!("{CHANNEL}{}", number % NUDGE_CHANNELS), &number.to_string());
        // The task of the nudges runs too.
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    tokio::time::sleep(WATCHED).await;
    say(&Taken { bytes: memory_bytes()? - before })?;
    let wanted = job.job.count + 1;
    while !is_committed(wanted) && notifier.stats().nudges_dropped == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let stats = notifier.stats();
    notifier.close().await;
    print_line(&Committed { calls: stats.nudges_coalesced + stats.nudges_committed - 1 })
}

async fn notifier(job: &PublishingJob) -> Outcome<Notifier> {
    let builder = Notifier::builder(&*job.conninfo(NOTIFIER));
    Ok(builder.answer_timeout(ANSWER_TIMEOUT).connect().await?)
}

/// Reports that the backends can be stopped, and waits until they are.
async fn wait_until_stopped() -> Outcome<()> {
    print_ready()?;
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
    Ok(())
}

/// Returns the highest memory of this process so far.
fn memory_bytes() -> Outcome<u64> {
    Ok(peak_rss_kib()? * 1024)
}

/// Prints a line, and continues.
fn say(line: &impl Serialize) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(line)?)?;
    Ok(out.flush()?)
}
