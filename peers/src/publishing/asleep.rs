//! The memory of a notifier whose server sleeps, while many calls wait.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pgbell::Notifier;
use pgbell_testkit::{Auth, Cluster, Signal};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::arrivals::CHANNEL;
use super::{PublishingJob, Role, start};
use crate::many::Size;
use crate::matchup::{Kind, Matchup};
use crate::outcome::{Failure, Outcome};
use crate::tally::print_line;
use crate::usage::{peak_rss_kib, rss_kib};

/// The tasks that call `notify`: more than the queue has room for.
const CALLERS: usize = 40_000;

/// The tasks that call `notify_many`: the queue has room for all of them. Others would wait with their arguments, which are encoded.
const GROUP_CALLERS: usize = 1_000;

/// The default of `NotifierBuilder::queue_bytes`.
const QUEUE_BYTES: u64 = 8 * 1024 * 1024;

/// The documented limit of a group, in bytes and in calls.
const GROUP_BYTES: u64 = 256 * 1024;
const GROUP_CALLS: u64 = 1_000;

/// Longer than the server sleeps.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// How long the memory is watched after all tasks have called.
const WATCHED: Duration = Duration::from_millis(500);

/// The notifications of a call of `notify_many`, and the bytes of a long payload. Each byte is one that is escaped.
const GROUP: usize = 8;
const LONG_BYTES: usize = 400;

/// The session of the notifier, which is to be stopped.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Ready {
    process_id: i32,
}

/// The memory that the calls have taken, in bytes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Taken {
    bytes: u64,
}

/// The calls that were committed when the server went on.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Committed {
    calls: usize,
}

/// Returns what `NotifierBuilder` documents: the queue, the encoded commands, and the group that is being encoded.
fn formula_bytes() -> u64 {
    QUEUE_BYTES + 4 * QUEUE_BYTES + 4 * (GROUP_BYTES + 3 * GROUP_CALLS)
}

pub(super) fn memory(size: Size) -> Matchup {
    let callers = size.amount(CALLERS, 2_000);
    let group_callers = size.amount(GROUP_CALLERS, 50);
    let server = Cluster::builder().auth(Auth::Trust).setting("autovacuum", "off").start();
    let roles = [Role::AsleepShort, Role::AsleepLong, Role::AsleepGroups];
    let names = ["notify, 8 B", "notify, 400 B to escape", "notify_many, 8 × 400 B to escape"];
    Matchup::contest(Kind::Asleep { callers }, size.rounds(3), &names, |index| {
        let server = server.as_ref().map_err(ToString::to_string)?;
        let role = roles[index];
        let callers = if role == Role::AsleepGroups { group_callers } else { callers };
        Ok(measure(role, server, callers)? as f64 / formula_bytes() as f64)
    })
}

/// Stops the backend of a notifier, and returns the bytes that its calls take meanwhile.
fn measure(role: Role, server: &Cluster, callers: usize) -> Outcome<u64> {
    let mut child = start(role, server.port(), callers as u64, 0)?;
    let Ready { process_id } = child.value()?;
    server.signal_backend(process_id, Signal::Stop)?;
    let input = child.input.as_mut().ok_or("a process without input")?;
    writeln!(input, "stopped")?;
    let taken: Outcome<Taken> = child.value();
    server.signal_backend(process_id, Signal::Cont)?;
    let committed: Committed = child.value()?;
    child.finish()?;
    if committed.calls != callers {
        return Err(format!("{} of {callers} calls were committed", committed.calls).into());
    }
    Ok(taken?.bytes)
}

/// Calls with many tasks while the server sleeps. The tasks are there before the memory is read first, so that it is the
/// notifier's alone.
pub(super) async fn call(role: Role, job: &PublishingJob) -> Outcome<()> {
    let callers = usize::try_from(job.job.count)?;
    let builder = Notifier::builder(&*job.conninfo("notifier"));
    let notifier = builder.answer_timeout(ANSWER_TIMEOUT).connect().await?;
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
    let process_id = notifier.process_id().ok_or("a session without a process id")?;
    say(&Ready { process_id })?;
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
    let before = rss_kib()?.max(peak_rss_kib()?);
    open.send(true)?;
    while called.load(Ordering::Relaxed) < callers {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(WATCHED).await;
    say(&Taken { bytes: (peak_rss_kib()? - before) * 1024 })?;
    let mut committed = 0;
    for task in tasks {
        task.await??;
        committed += 1;
    }
    notifier.close().await;
    print_line(&Committed { calls: committed })
}

/// Prints a line, and continues.
fn say(line: &impl Serialize) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(line)?)?;
    Ok(out.flush()?)
}
