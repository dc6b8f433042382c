//! The log of sessions that a real server ends, and the delays that it contains.

use std::time::{Duration, Instant};

use pgbell::{Event, Listener, State, WakeTask, Wakeups};
use pgbell_testkit::{Cut, Proxy};

use crate::log::Log;
use crate::support::{Server, TEST_TIMEOUT, next, until};

/// Asserts that each text is in a line of this level, in this order.
fn assert_lines(log: &Log, expected: &[(&str, &str)]) {
    let text = log.text();
    let mut lines = text.lines();
    for (level, expected) in expected {
        let found = lines.find(|line| line.contains(expected));
        let line = found.unwrap_or_else(|| panic!("{expected} is not in its place:\n{text}"));
        assert!(line.contains(level), "{line}");
    }
}

async fn event(listener: &mut Listener) -> Event {
    tokio::time::timeout(TEST_TIMEOUT, listener.recv()).await.expect("nothing arrives").unwrap()
}

#[test]
fn r7_the_log_has_each_session_of_a_listener_with_error_and_delay() {
    let server = Server::start();
    let log = Log::default();
    log.run(async {
        let delay = Duration::from_millis(30);
        let builder = Listener::builder(server.url()).channels(["a", "b"]);
        let mut listener = builder.backoff(delay, delay).connect().await.unwrap();
        server.cluster.terminate_backend(listener.process_id().unwrap()).unwrap();
        assert!(matches!(event(&mut listener).await, Event::Gap(_)));
        listener.close().await;
    });
    let expected = [
        ("INFO", "configured channels=2 reconnect=true"),
        ("INFO", "established: every channel is active epoch=1 channels=2"),
        ("WARN", "the session was lost error="),
        ("INFO", "reconnecting error="),
        ("INFO", "established: every channel is active epoch=2 channels=2"),
        ("INFO", "closed"),
    ];
    assert_lines(&log, &expected);
    let text = log.text();
    for line in text.lines().filter(|line| line.contains("the session was lost error=")) {
        assert!(line.contains("57P01"), "{line}");
    }
    let reconnecting = text.lines().find(|line| line.contains("reconnecting error=")).unwrap();
    assert!(reconnecting.contains("57P01") && reconnecting.contains("delay=30ms"), "{text}");
}

#[test]
fn r7_the_log_has_what_wake_ups_do_on_a_server_that_ends_their_session() {
    let server = Server::start();
    let log = Log::default();
    log.run(async {
        let delay = Duration::from_millis(30);
        let wakeups = Wakeups::builder(server.url())
            .task(WakeTask::new("jobs").channel("jobs"))
            .backoff(delay, delay)
            .connect()
            .await
            .unwrap();
        server.cluster.terminate_backend(wakeups.process_id().unwrap()).unwrap();
        until("it listens again", || {
            wakeups.stats().connection.gaps == 1 && wakeups.status().is_listening()
        })
        .await;
        wakeups.close().await;
    });
    let expected = [
        ("INFO", "wake-ups configured tasks=1 channels=1 listen=Enabled"),
        ("INFO", "established: every channel is active epoch=1"),
        ("WARN", "the session was lost error="),
        ("INFO", "reconnecting error="),
        ("INFO", "established: every channel is active epoch=2"),
        ("INFO", "closed"),
    ];
    assert_lines(&log, &expected);
}

/// Returns the delays in the log, in its order.
fn delays(log: &Log) -> Vec<Duration> {
    let text = log.text();
    let lines = text.lines().filter(|line| line.contains("reconnecting error="));
    let delay = |line: &str| {
        let (_, rest) = line.split_once("delay=").unwrap();
        let delay = rest.split_whitespace().next().unwrap();
        let (number, unit) = match delay.strip_suffix("ms") {
            Some(number) => (number, 1e-3),
            None => (delay.strip_suffix('s').unwrap(), 1.0),
        };
        Duration::from_secs_f64(number.parse::<f64>().unwrap() * unit)
    };
    lines.map(delay).collect()
}

/// P7: the limit of the delays doubles with every attempt, up to the longest one. Each is a random one below the limit, and is waited for.
/// They are short again after a session that was live for as long as the longest one. The state follows.
#[test]
fn r2_delays_have_the_configured_limits_grow_and_are_short_again_after_a_session_that_lasted() {
    const MIN: Duration = Duration::from_millis(10);
    const MAX: Duration = Duration::from_millis(160);
    const ATTEMPTS: usize = 25;
    let server = Server::start();
    let proxy = Proxy::start(server.cluster.port()).unwrap();
    let url =
        proxy.url(server.cluster.superuser(), server.cluster.superuser_password(), "postgres");
    let log = Log::default();
    log.run(async {
        let builder = Listener::builder(format!("{url}?sslmode=disable")).channels(["a"]);
        let mut listener = builder.backoff(MIN, MAX).connect().await.unwrap();
        assert_eq!(listener.state(), State::Connected);
        // The session must have lasted, so that what follows begins with the shortest delay.
        tokio::time::sleep(MAX).await;
        let begin = Instant::now();
        proxy.handle().refuse().unwrap();
        proxy.handle().cut(Cut::Reset).unwrap();
        until("there were attempts", || listener.stats().attempts_failed >= ATTEMPTS as u64).await;
        assert_eq!(listener.state(), State::Reconnecting);
        let waited = begin.elapsed();
        let delays_before = delays(&log);
        // The last one was not waited for.
        let slept: Duration = delays_before[..ATTEMPTS].iter().sum();
        assert!(waited >= slept, "{waited:?} for delays of {slept:?}");
        proxy.handle().accept().unwrap();
        let event = event(&mut listener).await;
        assert!(matches!(&event, Event::Gap(gap) if gap.sessions() == 1), "{event:?}");
        assert_eq!((listener.state(), listener.stats().sessions), (State::Connected, 2));
        server.notifier().await.notify("a", "back").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "back");

        let before = delays(&log);
        for (number, delay) in before.iter().enumerate() {
            let limit = MIN.saturating_mul(1 << (number + 1).min(16)).min(MAX);
            assert!((MIN..=limit).contains(delay), "delay {number} is {delay:?}: {before:?}");
        }
        // Most of the random delays are longer than the first limit, and no two are the same.
        let longer = before.iter().filter(|delay| **delay > 2 * MIN).count();
        assert!(longer > ATTEMPTS / 2, "{before:?}");
        assert!(before[4..].windows(2).all(|pair| pair[0] != pair[1]), "{before:?}");

        tokio::time::sleep(MAX).await;
        server.cluster.terminate_backend(listener.process_id().unwrap()).unwrap();
        until("it is lost", || delays(&log).len() > before.len()).await;
        let next = delays(&log)[before.len()];
        assert!((MIN..=2 * MIN).contains(&next), "{next:?}");
        listener.close().await;
    });
}

#[cfg(feature = "durable")]
#[test]
fn the_log_has_what_a_cursor_does_and_no_record() {
    use pgbell::durable::{Outbox, OutboxSettings};
    let server = Server::start();
    let log = Log::default();
    log.run(async {
        let mut writer = server.connection().await;
        let outbox = Outbox::new(server.url(), "outbox").unwrap();
        outbox.init(&OutboxSettings::new()).await.unwrap();
        writer
            .query(&outbox.insert_sql(), &[Some("secret key"), Some("\"secret\"")])
            .await
            .unwrap();
        let delay = Duration::from_millis(30);
        let mut first = outbox.cursor("mail").backoff(delay, delay).open().await.unwrap();
        drop(first.next().await.unwrap());
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        writer.simple_query(end).await.unwrap();
        drop(first.next().await.unwrap());
        let waits = tokio::time::timeout(Duration::from_secs(2), outbox.cursor("mail").open());
        assert!(waits.await.is_err());
        let second = outbox.cursor("mail").take_over().open().await.unwrap();
        assert!(first.next().await.is_err());
        second.close().await;
    });
    let expected = [
        ("INFO", "cursor opened cursor=\"mail\" token=1"),
        ("WARN", "a call of the log failed, and is made again cursor=\"mail\" error="),
        ("INFO", "waiting for a cursor cursor=\"mail\" reason=\"another reader has it\""),
        ("INFO", "cursor opened cursor=\"mail\" token=2"),
        ("WARN", "another reader has taken over the cursor cursor=\"mail\""),
    ];
    assert_lines(&log, &expected);
    assert!(!log.text().contains("secret"), "{}", log.text());
}
