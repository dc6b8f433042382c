//! The log and the metrics of a listener: enough to understand what happened during a night, and no secret.

#![cfg(all(feature = "tokio", feature = "testing", feature = "tracing", feature = "metrics"))]

#[path = "log/mod.rs"]
mod log;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use pgbell::testing::{Auth, BackendConfig, Server};
use pgbell::{Error, Event, Hub, Listen, Listener, Notifier, State, WakeTask, Wakeups};
use tracing::span::{Attributes, Id, Record};

use crate::log::Log;

const PASSWORD: &str = "a pl4nted password";

/// The metrics by name.
fn metrics(recorder: &DebuggingRecorder) -> BTreeMap<String, f64> {
    let snapshot = recorder.snapshotter().snapshot().into_vec();
    let number = |value: DebugValue| match value {
        #[allow(clippy::cast_precision_loss, reason = "small numbers")]
        DebugValue::Counter(count) => count as f64,
        DebugValue::Gauge(gauge) => gauge.into_inner(),
        DebugValue::Histogram(_) => panic!("no histogram is kept"),
    };
    let name = |key: metrics_util::CompositeKey| {
        assert_eq!(key.key().labels().next().unwrap().value(), "night");
        key.key().name().to_owned()
    };
    snapshot.into_iter().map(|(key, _, _, value)| (name(key), number(value))).collect()
}

#[test]
fn r7_a_night_can_be_understood_from_the_log_and_the_metrics() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    let recorder = DebuggingRecorder::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let counted = tracing::subscriber::with_default(subscriber, || {
        metrics::with_local_recorder(&recorder, || {
            runtime.block_on(async {
                tokio::time::timeout(Duration::from_secs(20), night()).await.unwrap();
                metrics(&recorder)
            })
        })
    });

    let text = log.text();
    let mut lines = text.lines();
    for (level, expected) in [
        ("INFO", "configured channels=2 reconnect=true"),
        ("INFO", "established: every channel is active epoch=1 channels=2"),
        ("WARN", "the session was lost error=server error: the server ended the session: FATAL"),
        ("INFO", "reconnecting error=server error: the server ended the session: FATAL"),
        ("INFO", "established: every channel is active epoch=2 channels=2"),
        (
            "WARN",
            "the on_live hook runs again error=other: the on_live hook failed: in code of the caller: not yet",
        ),
        ("INFO", "handed over to another session, without a gap epoch=3"),
        ("INFO", "closed"),
    ] {
        let found = lines.find(|line| line.contains(expected));
        let line = found.unwrap_or_else(|| panic!("{expected} is not in its place:\n{text}"));
        assert!(line.contains(level) && line.contains("application=\"night\""), "{line}");
    }
    assert!(!text.contains(PASSWORD), "{text}");

    for (name, value) in [
        ("pgbell_notifications_received_total", 2.0),
        ("pgbell_gaps_total", 1.0),
        ("pgbell_sessions_total", 3.0),
        ("pgbell_sessions_lost_total", 1.0),
        ("pgbell_handovers_total", 1.0),
        ("pgbell_hook_failures_total", 1.0),
        ("pgbell_queued_notifications", 0.0),
        ("pgbell_connected", 0.0),
    ] {
        assert_eq!(counted.get(name), Some(&value), "{name} in {counted:?}");
    }
}

async fn night() {
    let config = BackendConfig::new().auth(Auth::ScramSha256).user("bell", PASSWORD);
    let server = Server::start(config).await.unwrap();
    let url = format!(
        "host=127.0.0.1 port={} user=bell password='{PASSWORD}' dbname=postgres sslmode=disable \
         application_name=night",
        server.port()
    );
    let runs = Arc::new(Mutex::new(0));
    let mut listener = Listener::builder(&*url)
        .channels(["a", "b"])
        .backoff(Duration::from_millis(1), Duration::from_millis(10))
        .on_live(move |connection, _| {
            let mut runs = runs.lock().unwrap();
            *runs += 1;
            let run = *runs;
            async move {
                connection.close().await;
                if run == 2 { Err(Error::other("not yet")) } else { Ok(()) }
            }
        })
        .connect()
        .await
        .unwrap();
    let mut sending = pgbell::Connection::connect(&*url).await.unwrap();
    sending.notify("a", "1").await.unwrap();
    assert!(matches!(listener.recv().await.unwrap(), Event::Notification(_)));
    server.terminate(listener.process_id().unwrap());
    assert!(matches!(listener.recv().await.unwrap(), Event::Gap(_)));
    sending.notify("b", "2").await.unwrap();
    assert!(matches!(listener.recv().await.unwrap(), Event::Notification(_)));
    let handle = listener.handle();
    handle.rotate().await.unwrap();
    while listener.stats().handovers == 0 {
        tokio::task::yield_now().await;
    }
    handle.wait_state(State::Connected).await.unwrap();
    listener.close().await;
}

/// A hub has the same log events and metrics as a listener. Its span and its hook have their own names.
#[test]
fn the_log_of_a_hub_names_the_hub_and_its_metrics_count_for_each_subscription() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    let recorder = DebuggingRecorder::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let counted = tracing::subscriber::with_default(subscriber, || {
        metrics::with_local_recorder(&recorder, || {
            runtime.block_on(async {
                tokio::time::timeout(Duration::from_secs(20), night_of_a_hub()).await.unwrap();
                metrics(&recorder)
            })
        })
    });

    let text = log.text();
    assert!(text.contains("pgbell_hub{id="), "{text}");
    let expected = "the on_resync hook runs again error=other: the on_resync hook failed: in code of the caller: not yet";
    assert!(text.contains(expected), "{text}");
    // The target of an event is its module.
    let text = text.replace("pgbell::listener::facades", "");
    assert!(!text.contains("listener") && !text.contains("on_live"), "{text}");
    // Two subscriptions to a channel with three notifications; the queue of one of them has room for one.
    for (name, value) in [
        ("pgbell_notifications_received_total", 3.0),
        ("pgbell_notifications_delivered_total", 6.0),
        ("pgbell_notifications_dropped_total", 2.0),
        ("pgbell_queued_notifications", 0.0),
        ("pgbell_connected", 0.0),
    ] {
        assert_eq!(counted.get(name), Some(&value), "{name} in {counted:?}");
    }
}

async fn night_of_a_hub() {
    let server = Server::start(BackendConfig::new()).await.unwrap();
    let url = format!("{}&application_name=night", server.url());
    let runs = AtomicU64::new(0);
    let hub = Hub::builder(&*url)
        .backoff(Duration::from_millis(1), Duration::from_millis(10))
        .on_resync(move |connection, _| {
            let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                connection.close().await;
                if run == 2 { Err(Error::other("not yet")) } else { Ok(()) }
            }
        })
        .connect()
        .await
        .unwrap();
    let mut all = hub.subscribe("a").await.unwrap();
    let _first = hub.subscribe("a").queue_capacity(1).await.unwrap();
    server.terminate(hub.handle().process_id().unwrap());
    assert!(matches!(all.recv().await.unwrap(), Event::Gap(_)));
    let mut sending = pgbell::Connection::connect(&*url).await.unwrap();
    for payload in ["1", "2", "3"] {
        sending.notify("a", payload).await.unwrap();
        assert!(matches!(all.recv().await.unwrap(), Event::Notification(_)));
    }
    hub.close().await;
}

/// A recorder and a subscriber that panic from some moment on. Their calls are counted.
#[derive(Clone, Default)]
struct Broken(Arc<Calls>);

#[derive(Default)]
struct Calls {
    is_broken: AtomicBool,
    panics: AtomicU64,
}

impl Calls {
    fn call(&self) {
        if self.is_broken.load(Ordering::SeqCst) {
            self.panics.fetch_add(1, Ordering::SeqCst);
            panic!("the receiver is broken");
        }
    }
}

impl metrics::CounterFn for Calls {
    fn increment(&self, _: u64) {
        self.call();
    }

    fn absolute(&self, _: u64) {
        self.call();
    }
}

impl metrics::GaugeFn for Calls {
    fn increment(&self, _: f64) {
        self.call();
    }

    fn decrement(&self, _: f64) {
        self.call();
    }

    fn set(&self, _: f64) {
        self.call();
    }
}

impl metrics::Recorder for Broken {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.0.clone())
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.0.clone())
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

impl tracing::Subscriber for Broken {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.call();
    }

    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn try_close(&self, _: Id) -> bool {
        self.0.call();
        true
    }
}

/// Runs a listener whose telemetry panics from now on: the listener continues without it, and logs that once.
async fn continues_without_it(broken: &Calls) {
    let server = Server::start(BackendConfig::new()).await.unwrap();
    let url = server.url();
    let builder = Listener::builder(&*url).channels(["a"]);
    let delay = Duration::from_millis(1);
    let mut listener = builder.backoff(delay, delay).connect().await.unwrap();
    broken.is_broken.store(true, Ordering::SeqCst);
    let mut sending = pgbell::Connection::connect(&*url).await.unwrap();
    sending.notify("a", "1").await.unwrap();
    assert!(matches!(listener.recv().await.unwrap(), Event::Notification(_)));
    let mut errors = vec![listener.last_error()];
    server.terminate(listener.process_id().unwrap());
    assert!(matches!(listener.recv().await.unwrap(), Event::Gap(_)));
    sending.notify("a", "2").await.unwrap();
    assert!(matches!(listener.recv().await.unwrap(), Event::Notification(_)));
    errors.push(listener.last_error());
    let says_so = |error: &Error| format!("{error:#}").contains("panicked: the receiver is broken");
    assert!(errors.iter().flatten().any(says_so), "{errors:?}");
    listener.close().await;
    // Once where it is called, and once more where it is dropped.
    let panics = broken.panics.load(Ordering::SeqCst);
    assert!((1..=2).contains(&panics), "{panics}");
}

#[test]
fn a_recorder_of_metrics_that_panics_is_not_called_again_and_the_listener_continues() {
    let broken = Broken::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    metrics::with_local_recorder(&broken, || {
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(20), continues_without_it(&broken.0))
                .await
                .unwrap();
        });
    });
}

#[test]
fn a_subscriber_of_tracing_that_panics_is_not_called_again_and_the_listener_continues() {
    let broken = Broken::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tracing::subscriber::with_default(broken.clone(), || {
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(20), continues_without_it(&broken.0))
                .await
                .unwrap();
        });
    });
}

/// The log lines of the seed: configured, established, lost and opened again with the error and the delay, and why it only polls.
#[test]
fn r7_wake_ups_log_what_is_configured_established_lost_and_only_polled() {
    let log = Log::default();
    log.run(async {
        tokio::time::timeout(Duration::from_secs(20), woken()).await.unwrap();
    });
    let text = log.text();
    let mut lines = text.lines();
    for (level, expected) in [
        ("INFO", "wake-ups configured tasks=1 channels=1 listen=Automatic"),
        ("WARN", "wake-ups poll only until the next attempt to listen error=connection: "),
        ("INFO", "established: every channel is active epoch=1"),
        ("INFO", "wake-ups listen: notifications arrive"),
        ("WARN", "the session was lost error="),
        ("INFO", "reconnecting error="),
        ("INFO", "established: every channel is active epoch=2"),
        ("INFO", "closed"),
        ("INFO", "wake-ups poll only: listening is disabled"),
    ] {
        let found = lines.find(|line| line.contains(expected));
        let line = found.unwrap_or_else(|| panic!("{expected} is not in its place:\n{text}"));
        assert!(line.contains(level), "{line}");
    }
    assert!(text.contains("delay="), "{text}");
    assert!(!text.contains(PASSWORD), "{text}");
}

async fn woken() {
    let config = BackendConfig::new().auth(Auth::ScramSha256).user("bell", PASSWORD);
    let mut server = Server::start(config).await.unwrap();
    let url = format!(
        "host=127.0.0.1 port={} user=bell password='{PASSWORD}' dbname=postgres sslmode=disable",
        server.port()
    );
    server.halt().await;
    let backoff = Duration::from_millis(10);
    let builder = Wakeups::builder(&*url)
        .task(WakeTask::new("jobs").channel("jobs"))
        .backoff(backoff, backoff);
    let wakeups = builder.clone().listen(Listen::Automatic).connect().await.unwrap();
    let worker = wakeups.worker("jobs").unwrap();
    assert!(worker.changed().await);
    server.resume().await.unwrap();
    assert!(worker.changed().await);
    server.kill_all();
    assert!(worker.changed().await);
    wakeups.close().await;
    builder.listen(Listen::Disabled).connect().await.unwrap().close().await;
}

/// An earlier version logged only the first nudge that was dropped, which may have been one that is not valid.
#[test]
fn the_end_of_the_nudges_is_logged_also_after_a_dropped_one() {
    let log = Log::default();
    log.run(async {
        let mut server = Server::start(BackendConfig::new()).await.unwrap();
        let notifier = Notifier::builder(server.url()).reconnect(false).await.unwrap();
        notifier.nudge("jobs", "\0");
        notifier.nudge("jobs", "1");
        while notifier.stats().nudges_committed == 0 {
            tokio::task::yield_now().await;
        }
        server.halt().await;
        while notifier.stats().nudges_dropped == 1 {
            notifier.nudge("jobs", "2");
            tokio::task::yield_now().await;
        }
    });
    let text = log.text();
    let warnings: Vec<&str> = text.lines().filter(|line| line.contains("nudge")).collect();
    assert_eq!(warnings.len(), 2, "{text}");
    assert!(warnings[0].contains("NUL"), "{text}");
    assert!(
        warnings[1].contains("WARN") && warnings[1].contains("the nudges have ended"),
        "{text}"
    );
}

/// The application's data is not logged.
#[test]
fn the_first_nudge_that_is_dropped_is_logged_without_its_key() {
    let log = Log::default();
    log.run(async {
        let server = Server::start(BackendConfig::new()).await.unwrap();
        let notifier = Notifier::connect(server.url()).await.unwrap();
        notifier.nudge("jobs", "of the application");
        for _ in 0..3 {
            notifier.nudge("jobs", "of the application\0");
        }
        notifier.clone().close().await;
        let stats = notifier.stats();
        assert_eq!((stats.nudges_committed, stats.nudges_dropped), (1, 3));
    });
    let text = log.text();
    let warnings: Vec<&str> = text.lines().filter(|line| line.contains("nudge")).collect();
    assert_eq!(warnings.len(), 1, "{text}");
    assert!(warnings[0].contains("WARN") && warnings[0].contains("NUL"), "{text}");
    assert!(!text.contains("of the application"), "{text}");
}
