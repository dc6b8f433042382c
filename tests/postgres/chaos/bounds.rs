//! A consumer that never reads has no effect on other sessions.

use std::time::{Duration, Instant};

use pgbell::{Listener, Overflow};

use crate::support::{Server, next, run_for, until, until_sql, value};

/// S1. The number of messages of 8 kB: 50,000, or the value in the environment.
fn messages() -> u64 {
    std::env::var("PGBELL_BIG_MESSAGES")
        .map_or(50_000, |n| n.parse().expect("PGBELL_BIG_MESSAGES: a number"))
}

/// A generous time limit for this number.
fn time_limit() -> Duration {
    Duration::from_secs(120) + Duration::from_millis(3) * u32::try_from(messages()).unwrap()
}

/// Sent together, and received by the other listener before more are sent, so that they fit into its queue.
const ROUND: u64 = 1000;

/// Rounds before the sleeper connects. Each is in the other listener's queue as a whole, so that everything else has
/// allocated all the memory that it needs.
const WARM_UP: u64 = 10;

const KIB: u64 = 1024;

/// The default memory limit of a listener, as `ListenerBuilder` documents it, without pinned batches: 12 MiB.
const SLEEPER_BYTES_MAX: u64 = 256 * KIB * ((8 * KIB).div_ceil(232) + 3) + 128 * 16_384 + 128 * KIB;

/// Returns the resident memory of this process in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * page_bytes()
}

fn page_bytes() -> u64 {
    let output = std::process::Command::new("getconf").arg("PAGESIZE").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn round_sql() -> String {
    format!(
        "SELECT count(pg_notify('a', repeat('x', 7990) || i)) FROM generate_series(1, {ROUND}) i"
    )
}

async fn receive_round(other: &mut Listener) {
    for _ in 0..ROUND {
        next(other).await;
    }
}

/// S1. Promise S12.
#[test]
fn a_consumer_that_never_polls_leaves_the_servers_queue_empty_and_others_unaffected() {
    let server = Server::start();
    run_for(time_limit(), async {
        let mut other = server.listener(&["a", "b"]).await;
        let mut writer = server.connection().await;
        let mut before = 0;
        for _ in 0..WARM_UP {
            writer.simple_query(&round_sql()).await.unwrap();
            let all = other.stats().delivered + ROUND;
            until("its queue holds the whole round", || other.stats().received == all).await;
            before = before.max(resident());
            receive_round(&mut other).await;
        }
        let begin = Instant::now();
        let sleeper = Listener::builder(server.url()).channels(["a"]).pin_limit_bytes(0);
        let sleeper = sleeper.overflow(Overflow::DropOldest).connect().await.unwrap();
        let wait_event = format!(
            "SELECT coalesce(wait_event, 'none') FROM pg_stat_activity WHERE pid = {}",
            sleeper.process_id().unwrap()
        );
        let (rounds, mut writing, mut most) = (messages() / ROUND, 0, 0);
        for _ in 0..rounds {
            writer.simple_query(&round_sql()).await.unwrap();
            receive_round(&mut other).await;
            most = most.max(resident());
            // It may block for a moment: the server must not wait for the sleeper for long.
            writing += u64::from(value(&mut writer, &wait_event).await == "ClientWrite");
        }
        until("the sleeper's socket is drained", || sleeper.stats().received == messages()).await;
        let took = begin.elapsed();
        assert_eq!(value(&mut writer, &wait_event).await, "ClientRead");
        let stats = sleeper.stats();
        assert!(stats.queued_bytes <= 8 * KIB * KIB, "{stats:?}");
        assert_eq!((stats.sessions, other.stats().sessions), (1, 1));
        let grown = most.max(resident()).saturating_sub(before);
        let allowed = SLEEPER_BYTES_MAX * 11 / 10;
        assert!(
            grown <= allowed,
            "{before} bytes resident, then {grown} more: {allowed} are allowed"
        );
        // Two ways to check it.
        until_sql(&mut writer, "SELECT pg_notification_queue_usage() = 0").await;
        let usage = sleeper.handle().notification_queue_usage().await.unwrap();
        assert_eq!(
            usage.to_string(),
            value(&mut writer, "SELECT pg_notification_queue_usage()").await
        );
        writer.notify("b", "unaffected").await.unwrap();
        assert_eq!(next(&mut other).await.payload(), "unaffected");
        report!(
            "{} notifications of 8 kB in {took:?}: the sleeper holds {} bytes in {} notifications; queue usage {usage}; \
             resident {before} bytes before, at most {grown} more (allowed {allowed}); its backend was seen in \
             ClientWrite after {writing} of {rounds} rounds, and waits in ClientRead",
            messages(),
            stats.queued_bytes,
            stats.queued
        );
    });
}
