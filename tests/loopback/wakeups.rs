//! Workers that are woken by notifications and by intervals, with servers that are lost, that do not deliver, or that do not answer.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use pgbell::testing::{BackendConfig, Proxy, Server};
use pgbell::{
    Config, DeliveryProof, ErrorKind, Keys, Listen, Wake, WakeTask, WakeWorker, Wakeups,
    WakeupsBuilder, WakeupsStatus,
};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::support::{server, soon};

/// An interval that does not pass in a test.
const NEVER: Duration = Duration::from_secs(3_600);

/// An interval that passes often.
const OFTEN: Duration = Duration::from_millis(20);

fn builder(url: &str) -> WakeupsBuilder {
    let backoff = Duration::from_millis(10);
    Wakeups::builder(url).backoff(backoff, backoff)
}

fn task(interval: Duration) -> WakeTask {
    WakeTask::new("jobs").channel("jobs").interval(interval).batch_size(10)
}

/// Returns wake-ups with one task, and a worker that has made the first poll.
async fn jobs(server: &Server, interval: Duration) -> (Wakeups, WakeWorker) {
    let wakeups = soon(builder(&server.url()).task(task(interval)).connect()).await.unwrap();
    let worker = wakeups.worker("jobs").unwrap();
    assert!(matches!(soon(worker.wake()).await, Ok(Wake::Poll)));
    (wakeups, worker)
}

/// Returns the count and the keys of the next wake-up, which must be of notifications.
async fn notified(worker: &WakeWorker) -> (u64, Keys) {
    match soon(worker.wake()).await.unwrap() {
        Wake::Notified { count, keys } => (count, keys),
        other => panic!("expected notifications, found {other}"),
    }
}

fn keys(keys: &[&str]) -> Keys {
    Keys::Set(keys.iter().map(|key| (*key).to_owned()).collect())
}

/// Waits until this number of notifications was received.
async fn received(worker: &WakeWorker, count: u64) {
    until(|| worker.stats().notifications >= count).await;
}

async fn until(mut is_so: impl FnMut() -> bool) {
    soon(async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

async fn is_pending(future: impl Future) -> bool {
    let mut future = pin!(future);
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

#[tokio::test]
async fn a_burst_is_one_wake_up_with_its_count_and_each_key_once() {
    let server = server().await;
    let (wakeups, worker) = jobs(&server, NEVER).await;
    for number in 0..10 {
        server.notify("jobs", &(number % 4).to_string()).unwrap();
        server.notify("others", "x").unwrap();
    }
    received(&worker, 10).await;
    assert_eq!(notified(&worker).await, (10, keys(&["0", "1", "2", "3"])));
    assert!(is_pending(worker.wake()).await);
    assert!(wakeups.status().is_listening());
    wakeups.close().await;
    server.stop().await;
}

#[tokio::test]
async fn tasks_with_one_channel_are_all_woken_and_those_with_another_one_are_not() {
    let server = server().await;
    let task = |name, channels: &[&str]| WakeTask::new(name).channels(channels).interval(NEVER);
    let wakeups = builder(&server.url())
        .task(task("both", &["a", "b"]))
        .task(task("a", &["a"]))
        .task(task("c", &["c"]))
        .connect();
    let wakeups = soon(wakeups).await.unwrap();
    let workers = ["both", "a", "c"].map(|name| wakeups.worker(name).unwrap());
    for worker in &workers {
        assert!(matches!(soon(worker.wake()).await, Ok(Wake::Poll)));
    }
    server.notify("a", "1").unwrap();
    server.notify("b", "2").unwrap();
    received(&workers[0], 2).await;
    assert_eq!(notified(&workers[0]).await, (2, keys(&["1", "2"])));
    assert_eq!(notified(&workers[1]).await, (1, keys(&["1"])));
    assert!(is_pending(workers[2].wake()).await);
    let names: Vec<_> = wakeups.stats().tasks.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "both", "c"]);
    server.stop().await;
}

#[tokio::test]
async fn a_dropped_wake_loses_nothing() {
    let server = server().await;
    let (_wakeups, worker) = jobs(&server, NEVER).await;
    for number in 0..20_u64 {
        assert!(is_pending(worker.wake()).await);
        // It was woken, and is dropped before it is polled again.
        let waits = worker.clone();
        let mut waits = Box::pin(async move { waits.wake().await });
        assert!(poll_fn(|cx| Poll::Ready(waits.as_mut().poll(cx).is_pending())).await);
        server.notify("jobs", &number.to_string()).unwrap();
        received(&worker, number + 1).await;
        drop(waits);
        assert_eq!(notified(&worker).await, (1, keys(&[&number.to_string()])));
    }
    server.stop().await;
}

/// A worker that holds a wake-up and does not take it must not keep it from the others.
#[tokio::test]
async fn a_wake_that_is_dropped_after_it_was_woken_wakes_another_worker() {
    let server = server().await;
    let (_wakeups, worker) = jobs(&server, NEVER).await;
    let first = worker.clone();
    let mut first = Box::pin(async move { first.wake().await });
    assert!(poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx).is_pending())).await);
    let second = worker.clone();
    let second = tokio::spawn(async move { second.wake().await });
    tokio::task::yield_now().await;
    server.notify("jobs", "1").unwrap();
    received(&worker, 1).await;
    drop(first);
    assert!(matches!(soon(second).await.unwrap(), Ok(Wake::Notified { count: 1, .. })));
    server.stop().await;
}

#[tokio::test]
async fn a_full_batch_wakes_another_worker_at_once_and_a_short_one_does_not() {
    let server = server().await;
    let (_wakeups, worker) = jobs(&server, NEVER).await;
    let other = worker.clone();
    let waits = tokio::spawn(async move { other.wake().await });
    tokio::task::yield_now().await;
    assert!(!worker.found(9));
    assert!(!waits.is_finished());
    assert!(worker.found(10));
    assert!(matches!(soon(waits).await.unwrap(), Ok(Wake::Poll)));
    assert!(is_pending(worker.wake()).await);
    assert_eq!(worker.stats().full_batches, 1);
    server.stop().await;
}

#[tokio::test]
async fn polling_goes_on_while_the_listener_is_down_and_its_return_is_a_resync() {
    let mut server = server().await;
    let (wakeups, worker) = jobs(&server, OFTEN).await;
    server.halt().await;
    until(|| matches!(wakeups.status(), WakeupsStatus::Polling(_))).await;
    for _ in 0..3 {
        assert!(matches!(soon(worker.wake()).await, Ok(Wake::Poll)));
    }
    let WakeupsStatus::Polling(reason) = wakeups.status() else { panic!() };
    assert!(wakeups.last_error().is_some(), "{reason}");
    server.resume().await.unwrap();
    let gap = loop {
        match soon(worker.wake()).await.unwrap() {
            Wake::Poll => {}
            Wake::Resync(gap) => break gap,
            other => panic!("{other}"),
        }
    };
    assert_eq!(gap.sessions(), 1);
    assert!(wakeups.status().is_listening());
    let stats = wakeups.stats();
    assert_eq!((stats.connection.gaps, stats.tasks[0].1.resyncs), (1, 1));
    wakeups.close().await;
    server.stop().await;
}

#[tokio::test]
async fn several_losses_that_no_worker_has_taken_are_one_resync() {
    let server = server().await;
    let (wakeups, worker) = jobs(&server, NEVER).await;
    for count in 1..=3 {
        server.kill_all();
        until(|| wakeups.stats().connection.gaps == count).await;
    }
    let Wake::Resync(gap) = soon(worker.wake()).await.unwrap() else { panic!() };
    assert_eq!(gap.sessions(), 3);
    assert!(is_pending(worker.wake()).await);
    server.stop().await;
}

#[tokio::test]
async fn r1_a_disabled_one_opens_no_connection_and_still_wakes() {
    let server = server().await;
    let wakeups = builder(&server.url()).task(task(OFTEN)).listen(Listen::Disabled).connect();
    let wakeups = soon(wakeups).await.unwrap();
    let worker = wakeups.worker("jobs").unwrap();
    for _ in 0..3 {
        assert!(matches!(soon(worker.wake()).await, Ok(Wake::Poll)));
    }
    assert_eq!(server.clients(), 0);
    assert_eq!(wakeups.status().to_string(), "polling only: listening is disabled");
    wakeups.close().await;
    server.stop().await;
}

#[tokio::test]
async fn r1_an_enabled_one_returns_the_first_error_and_an_automatic_one_polls_and_says_why() {
    let mut server = server().await;
    let url = server.url();
    server.halt().await;
    let error = soon(builder(&url).task(task(OFTEN)).connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");

    let automatic = builder(&url).task(task(NEVER)).listen(Listen::Automatic).connect();
    let wakeups = soon(automatic).await.unwrap();
    let WakeupsStatus::Polling(reason) = wakeups.status() else { panic!("{wakeups:?}") };
    assert_eq!(reason.kind(), ErrorKind::Connect, "{reason}");
    let worker = wakeups.worker("jobs").unwrap();
    assert!(matches!(soon(worker.wake()).await, Ok(Wake::Poll)));

    // It listens as soon as that is possible, and reads what was committed before.
    server.resume().await.unwrap();
    assert!(matches!(soon(worker.wake()).await, Ok(Wake::Poll)));
    assert!(wakeups.status().is_listening());
    assert!(wakeups.stats().failed_attempts > 0);
    server.notify("jobs", "1").unwrap();
    assert_eq!(notified(&worker).await, (1, keys(&["1"])));
    wakeups.close().await;
    server.stop().await;
}

/// The login detects the proxy, unless its check is turned off: then the proof does.
#[tokio::test(start_paused = true)]
async fn r1_an_automatic_one_polls_behind_a_proxy_that_does_not_deliver_and_says_why() {
    let proxy = BackendConfig::new().proxy(Proxy::OneSession);
    let server = Server::start(proxy).await.unwrap();
    for check in [DeliveryProof::Auto, DeliveryProof::Skip] {
        let config: Config = server.url().parse().unwrap();
        let wakeups = Wakeups::builder(config.delivery_proof(check))
            .task(task(OFTEN))
            .listen(Listen::Automatic)
            .connect()
            .await
            .unwrap();
        let WakeupsStatus::Polling(reason) = wakeups.status() else { panic!("{wakeups:?}") };
        assert_eq!(reason.kind(), ErrorKind::Pooler, "{reason:#}");
        let by_proof = reason.to_string().contains("the delivery proof hook failed: ");
        assert_eq!(by_proof, check == DeliveryProof::Skip, "{reason}");
        let hint = match by_proof {
            true => {
                "connect to the server directly, or through a pooler that keeps sessions (PgBouncer: pool_mode = session)"
            }
            false => "connect directly to the server, or to a pool with pool_mode = session",
        };
        assert!(reason.hint().is_some_and(|found| found.starts_with(hint)), "{reason:#}");
        let worker = wakeups.worker("jobs").unwrap();
        for _ in 0..3 {
            assert!(matches!(worker.wake().await, Ok(Wake::Poll)));
        }
        wakeups.close().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn r1_an_automatic_one_proves_delivery_again_after_each_loss() {
    let server = server().await;
    let automatic = builder(&server.url()).task(task(NEVER)).listen(Listen::Automatic).connect();
    let wakeups = soon(automatic).await.unwrap();
    assert!(wakeups.status().is_listening());
    let worker = wakeups.worker("jobs").unwrap();
    assert!(matches!(soon(worker.wake()).await, Ok(Wake::Poll)));
    for _ in 0..3 {
        server.kill_all();
        assert!(matches!(soon(worker.wake()).await, Ok(Wake::Resync(_))));
    }
    // Each proof is one notification, on a channel that wakes no task.
    assert_eq!((wakeups.stats().connection.received, worker.stats().notifications), (4, 0));
    server.notify("jobs", "1").unwrap();
    assert_eq!(notified(&worker).await, (1, keys(&["1"])));
    wakeups.close().await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_automatic_one_polls_if_the_server_does_not_answer_and_its_close_is_bounded() {
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = mute.local_addr().unwrap().port();
    let url = format!("host=127.0.0.1 port={port} user=x sslmode=disable connect_timeout=2");
    let begin = Instant::now();
    let automatic = builder(&url).task(task(OFTEN)).listen(Listen::Automatic).connect();
    let wakeups = automatic.await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    let WakeupsStatus::Polling(reason) = wakeups.status() else { panic!("{wakeups:?}") };
    assert_eq!(reason.kind(), ErrorKind::Timeout, "{reason}");
    let worker = wakeups.worker("jobs").unwrap();
    for _ in 0..100 {
        assert!(matches!(worker.wake().await, Ok(Wake::Poll)));
    }
    let begin = Instant::now();
    wakeups.close().await;
    assert!(begin.elapsed() <= Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(worker.wake().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn r9_a_close_or_a_drop_ends_every_worker_and_the_session() {
    let server = server().await;
    for is_dropped in [false, true] {
        let (wakeups, worker) = jobs(&server, NEVER).await;
        let workers: Vec<_> = (0..5)
            .map(|_| {
                let worker = worker.clone();
                tokio::spawn(async move { worker.changed().await })
            })
            .collect();
        tokio::task::yield_now().await;
        match is_dropped {
            true => drop(wakeups),
            false => soon(wakeups.close()).await,
        }
        for waits in workers {
            assert!(!soon(waits).await.unwrap());
        }
        assert_eq!(soon(worker.wake()).await.unwrap_err().kind(), ErrorKind::Closed);
        until(|| server.clients() == 0).await;
    }
    server.stop().await;
}

/// R11: the seed has 1 s, 1 s and 5 s.
#[tokio::test(start_paused = true)]
async fn r11_each_task_is_polled_at_its_own_interval() {
    let tasks = [("workflows", 1), ("timers", 1), ("channels", 5)];
    let mut builder = Wakeups::builder("host=localhost").listen(Listen::Disabled);
    for (name, seconds) in tasks {
        builder = builder.task(WakeTask::new(name).interval(Duration::from_secs(seconds)));
    }
    let wakeups = builder.connect().await.unwrap();
    let begin = Instant::now();
    for (name, seconds) in tasks {
        let worker = wakeups.worker(name).unwrap();
        assert_eq!((worker.name(), worker.batch_size()), (name, 100));
        let polls = tokio::spawn(async move {
            let mut at = Vec::new();
            while at.len() < 4 {
                assert!(worker.changed().await);
                at.push(begin.elapsed().as_secs());
            }
            at
        });
        let expected: Vec<_> = (0..4).map(|poll| poll * seconds).collect();
        // The clock continues from the end of the one before: the first poll is at once in any case.
        let found = polls.await.unwrap();
        let first = found[0];
        assert_eq!(found.iter().map(|at| at - first).collect::<Vec<_>>(), expected, "{name}");
    }
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused_by_name() {
    let builder = || Wakeups::builder("host=localhost");
    let jobs = || WakeTask::new("jobs").channel("a");
    let long = "x".repeat(64);
    for (builder, kind, words) in [
        (builder(), ErrorKind::Config, "no task"),
        (builder().task(jobs()).task(jobs()), ErrorKind::Config, "two tasks"),
        (builder().task(jobs().interval(Duration::ZERO)), ErrorKind::Config, "interval"),
        (builder().task(jobs().batch_size(0)), ErrorKind::Config, "batch size"),
        (builder().task(WakeTask::new("jobs")), ErrorKind::Config, "Listen::Disabled"),
        (builder().task(jobs().channel(long)), ErrorKind::Misuse, "64"),
        (builder().task(jobs()).backoff(NEVER, OFTEN), ErrorKind::Config, "backoff"),
    ] {
        let modes = [Listen::Enabled, Listen::Automatic, Listen::Disabled];
        for listen in modes
            .into_iter()
            .filter(|mode| words != "Listen::Disabled" || *mode != Listen::Disabled)
        {
            let error = soon(builder.clone().listen(listen).connect()).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
    let disabled = builder().task(jobs()).listen(Listen::Disabled).connect().await.unwrap();
    assert_eq!(disabled.worker("job").unwrap_err().kind(), ErrorKind::Misuse);
}

/// A worker that reads the keys of each wake-up, or everything, misses nothing whenever sessions are lost.
#[tokio::test]
async fn whatever_was_committed_is_in_a_wake_up_although_sessions_are_lost() {
    const COUNT: u64 = 2_000;
    let server = server().await;
    let (wakeups, worker) = jobs(&server, NEVER).await;
    let table = std::sync::Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    let rows = table.clone();
    let reads = tokio::spawn(async move {
        let mut found = BTreeSet::new();
        while !found.contains(&(COUNT - 1).to_string()) {
            match worker.wake().await.unwrap().keys() {
                Some(keys) => found.extend(keys.iter().cloned()),
                None => found.extend(rows.lock().unwrap().iter().cloned()),
            }
        }
        found
    });
    for number in 0..COUNT {
        let key = number.to_string();
        table.lock().unwrap().insert(key.clone());
        server.notify("jobs", &key).unwrap();
        if number % 100 == 50 {
            server.kill_all();
        }
        if number % 7 == 0 {
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
    }
    // The last one may have been lost with its session; the resync reads it.
    let found = soon(reads).await.unwrap();
    assert_eq!(found.len() as u64, COUNT);
    assert!(wakeups.stats().connection.gaps > 0);
    server.stop().await;
}
