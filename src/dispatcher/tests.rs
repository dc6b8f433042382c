//! Lanes without a server: their queue is filled by the test. In the files below, dispatchers with a test server.

mod draining;
#[cfg(feature = "json")]
mod json;
mod limits;
mod stopping;
mod user_values;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::barrier::Barrier;
use super::key::LaneKey;
use super::lane::Lane;
use super::lane_queue::{LaneSender, lane_queue};
use super::phase::Phase;
use super::router::Router;
use super::shared::DispatcherShared;
use super::source::{Item, Source};
use super::{Dispatcher, Failure, Retry};
use crate::error::{Error, ErrorKind};
use crate::notification::{Lagged, Loss, Notification, NotificationRef, ReceiveInfo, TopicOf};
use crate::proto::wire::RawNotification;

fn notification(channel: &str, payload: &str) -> Notification {
    let info = ReceiveInfo::new(SystemTime::UNIX_EPOCH, 1);
    let (channel, payload) = (channel.as_bytes(), payload.as_bytes());
    let raw = RawNotification { process_id: 7, channel, payload };
    NotificationRef::new(raw, 0, &info, None).to_owned()
}

/// What handlers have written.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A lane that runs, and the end of its queue.
struct Running {
    queue: LaneSender,
    barrier: Arc<Barrier>,
    shared: Arc<DispatcherShared>,
    task: JoinHandle<Option<Error>>,
}

impl Running {
    /// Starts the only lane of a dispatcher.
    fn start(dispatcher: Dispatcher) -> Self {
        let Dispatcher { mut lanes, reports, concurrency, retry, lane_bytes, .. } = dispatcher;
        let (_, report) = watch::channel(None);
        let shared = DispatcherShared::new(concurrency, retry, lanes.len(), lane_bytes, report);
        let shared = Arc::new(shared);
        let (queue, source) = lane_queue(100, usize::MAX);
        let barrier = Arc::new(Barrier::default());
        let source = Source::Queue(source, barrier.clone());
        let (key, handlers) = lanes.pop_first().unwrap();
        let lane = Lane::new(Some(key), handlers, Arc::new(reports), source, shared.clone());
        Self { queue, barrier, shared, task: tokio::spawn(lane.run()) }
    }

    async fn put(&self, payload: &str) {
        self.shared.counters.received.add(1);
        self.item(Item::Notification(notification("a", payload))).await;
    }

    async fn item(&self, item: Item) {
        self.barrier.add();
        assert!(self.queue.send(item).await);
    }

    /// Ends the queue, and waits for the lane.
    async fn end(self) -> Arc<DispatcherShared> {
        drop(self.queue);
        assert!(self.task.await.unwrap().is_none());
        self.barrier.passed().await;
        self.shared
    }
}

/// Waits for a condition.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
    waited.unwrap_or_else(|_| panic!("{what}"));
}

fn lagged() -> Item {
    Item::Loss(Loss::Lagged(Lagged { first_sequence: 3, count: 2 }))
}

#[tokio::test]
async fn all_handlers_handle_a_notification_in_their_order_before_the_next_one() {
    let log = Log::default();
    let (first, second) = (log.clone(), log.clone());
    let running = Running::start(
        Dispatcher::new()
            .on("a", move |n: Notification| {
                let log = first.clone();
                async move {
                    tokio::task::yield_now().await;
                    log.add(format!("first {}", n.payload()));
                }
            })
            .on("a", move |n: Notification| {
                let log = second.clone();
                async move { log.add(format!("second {}", n.payload())) }
            }),
    );
    for payload in ["1", "2"] {
        running.put(payload).await;
    }
    let shared = running.end().await;
    assert_eq!(log.lines(), ["first 1", "second 1", "first 2", "second 2"]);
    let stats = shared.counters.stats(1);
    assert_eq!((stats.received, stats.handled, stats.runs, stats.running), (2, 2, 4, 0));
}

#[tokio::test]
async fn a_batch_has_at_most_its_limit_and_ends_before_a_loss() {
    let log = Log::default();
    let (batches, losses) = (log.clone(), log.clone());
    let running = Running::start(
        Dispatcher::new()
            .on_batch("a", 3, move |batch: Vec<Notification>| {
                let log = batches.clone();
                async move {
                    let payloads: Vec<_> = batch.iter().map(Notification::payload).collect();
                    log.add(payloads.join(","));
                }
            })
            .on_loss(move |loss| {
                let log = losses.clone();
                async move { log.add(loss.to_string()) }
            }),
    );
    for payload in ["1", "2", "3", "4", "5"] {
        running.put(payload).await;
    }
    running.item(lagged()).await;
    running.put("6").await;
    let shared = running.end().await;
    let loss = "a: 2 notifications were dropped: the queue was full";
    assert_eq!(log.lines(), ["1,2,3", "4,5", loss, "6"]);
    assert_eq!(shared.counters.handled.get(), 6);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_tried_again_after_doubling_delays_and_then_reported() {
    let (log, start) = (Log::default(), Instant::now());
    let (runs, failures) = (log.clone(), log.clone());
    let second = Duration::from_secs(1);
    let running = Running::start(
        Dispatcher::new()
            .retry(Retry::new(3).backoff(second, 10 * second))
            .on("a", move |n: Notification| {
                runs.add(format!("{} at {}", n.payload(), start.elapsed().as_secs()));
                async move { if n.payload() == "bad" { Err("no") } else { Ok(()) } }
            })
            .on_failure(move |failure: Failure| {
                let log = failures.clone();
                async move {
                    assert_eq!((failure.attempts(), failure.handler()), (3, Some(0)));
                    assert_eq!(failure.notifications()[0].payload(), "bad");
                    log.add(failure.to_string());
                }
            }),
    );
    running.put("bad").await;
    running.put("good").await;
    let shared = running.end().await;
    let failure = "a: 1 notification was not handled in 3 attempts: no";
    assert_eq!(log.lines(), ["bad at 0", "bad at 1", "bad at 3", failure, "good at 3"]);
    let stats = shared.counters.stats(1);
    assert_eq!((stats.retries, stats.failures, stats.panics, stats.handled), (2, 1, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_delay_of_a_retry_does_not_keep_another_lane_from_running() {
    let second = Duration::from_secs(1);
    let running = Running::start(
        Dispatcher::new()
            .concurrency(1)
            .retry(Retry::new(2).backoff(second, second))
            .on("a", |_: Notification| async { Err("no") }),
    );
    running.put("1").await;
    while running.shared.counters.runs.get() == 0 {
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
    assert_eq!(running.shared.permits.available_permits(), 1);
    let shared = running.end().await;
    assert_eq!(shared.counters.runs.get(), 2);
}

#[tokio::test]
async fn a_panic_of_the_failure_handler_is_contained_and_counted() {
    let running = Running::start(
        Dispatcher::new()
            .on("a", |n: Notification| async move {
                assert_ne!(n.payload(), "1", "planted");
            })
            .on_failure(|failure: Failure| async move {
                assert_eq!(failure.attempts(), 0, "{failure}");
            }),
    );
    running.put("1").await;
    running.put("2").await;
    let shared = running.end().await;
    let stats = shared.counters.stats(1);
    assert_eq!((stats.failures, stats.panics, stats.handled), (1, 2, 2));
}

#[tokio::test]
async fn an_error_whose_drop_panics_does_not_end_the_lane() {
    #[derive(Debug)]
    struct Bad;
    impl std::fmt::Display for Bad {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("bad")
        }
    }
    impl std::error::Error for Bad {}
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("in the drop of an error");
        }
    }
    let retry = Retry::new(2).backoff(Duration::ZERO, Duration::ZERO);
    let dispatcher = Dispatcher::new().retry(retry).on("a", |n: Notification| async move {
        if n.payload() == "1" { Err(Bad) } else { Ok(()) }
    });
    let running = Running::start(dispatcher);
    running.put("1").await;
    running.put("2").await;
    let shared = running.end().await;
    let stats = shared.counters.stats(1);
    assert_eq!((stats.failures, stats.panics, stats.handled, stats.running), (1, 2, 2, 0));
}

#[tokio::test]
async fn no_run_and_no_retry_begins_after_a_stop() {
    let (log, entered) = (Log::default(), Arc::new(tokio::sync::Notify::new()));
    let (lines, enter) = (log.clone(), entered.clone());
    let retry = Retry::new(9).backoff(Duration::ZERO, Duration::ZERO);
    let running = Running::start(Dispatcher::new().retry(retry).on("a", move |n: Notification| {
        let (log, enter) = (lines.clone(), enter.clone());
        async move {
            log.add(n.payload());
            enter.notify_one();
            tokio::time::sleep(Duration::from_millis(20)).await;
            Err("no")
        }
    }));
    running.put("1").await;
    running.put("2").await;
    entered.notified().await;
    running.shared.advance(Phase::Stopping, None);
    assert!(running.task.await.unwrap().is_none());
    assert_eq!(log.lines(), ["1"]);
    assert_eq!(running.shared.counters.unhandled(), 2);
    assert_eq!(running.shared.counters.cancelled.get(), 0);
}

#[tokio::test]
async fn the_next_handler_of_a_notification_does_not_begin_after_a_stop() {
    let (log, gate) = (Log::default(), Arc::new(tokio::sync::Notify::new()));
    let (first, second, opened) = (log.clone(), log.clone(), gate.clone());
    let running = Running::start(
        Dispatcher::new()
            .on("a", move |_: Notification| {
                let (log, gate) = (first.clone(), opened.clone());
                async move {
                    gate.notified().await;
                    log.add("first");
                }
            })
            .on("a", move |_: Notification| {
                let log = second.clone();
                async move { log.add("second") }
            }),
    );
    running.put("1").await;
    until("it runs", || running.shared.counters.running.get() == 1).await;
    running.shared.advance(Phase::Stopping, None);
    gate.notify_one();
    assert!(running.task.await.unwrap().is_none());
    assert_eq!(log.lines(), ["first"]);
    assert_eq!(running.shared.counters.unhandled(), 1);
}

#[test]
fn a_notification_is_for_its_channel_and_for_its_topic_without_the_topic_in_the_payload() {
    let mut router = Router::new(TopicOf::default());
    let mut queues = Vec::new();
    for (channel, topic) in [("a", None), ("a", Some("1")), ("b", Some("1"))] {
        let (queue, end) = lane_queue(1, 8_192);
        queues.push(end);
        let key = LaneKey { channel: channel.into(), topic: topic.map(Into::into) };
        router.add(&key, queue);
    }
    let payloads = |channel, payload| {
        let targets = router.targets(notification(channel, payload));
        assert!(!targets.has_panicked);
        [targets.whole, targets.topic].map(|target| target.map(|(_, n)| n.payload().to_owned()))
    };
    assert_eq!(payloads("a", "1:x"), [Some("1:x".to_owned()), Some("x".to_owned())]);
    assert_eq!(payloads("a", "2:x"), [Some("2:x".to_owned()), None]);
    assert_eq!(payloads("b", "1:"), [None, Some(String::new())]);
    assert_eq!(payloads("b", "none"), [None, None]);
    assert_eq!(payloads("c", "1:x"), [None, None]);
}

#[test]
fn a_panic_of_the_topic_function_means_no_topic() {
    let mut router = Router::new(TopicOf::function(|_| panic!("planted")));
    let (queue, _end) = lane_queue(1, 8_192);
    let key = |topic: Option<&str>| LaneKey { channel: "a".into(), topic: topic.map(Into::into) };
    router.add(&key(Some("1")), queue.clone());
    router.add(&key(None), queue);
    let targets = router.targets(notification("a", "1:x"));
    assert!(targets.has_panicked && targets.topic.is_none() && targets.whole.is_some());
}

#[tokio::test]
async fn a_dispatcher_that_cannot_work_is_refused_before_anything_is_started() {
    use crate::listener::Listener;
    let server = crate::testing::Server::start(crate::testing::BackendConfig::new()).await.unwrap();
    let nothing = |_: Notification| async {};
    let valid = || Dispatcher::new().on("a", nothing);
    let long = "x".repeat(64);
    for (dispatcher, kind, words) in [
        (Dispatcher::new(), ErrorKind::Misuse, "no handler"),
        (Dispatcher::new().on_loss(|_| async {}), ErrorKind::Misuse, "no handler"),
        (valid().on("", nothing), ErrorKind::Misuse, "empty"),
        (valid().on(&long, nothing), ErrorKind::Misuse, "63"),
        (valid().on_topic("a", "", nothing), ErrorKind::Misuse, "topic is empty"),
        (valid().on_topic("a", "x:y", nothing), ErrorKind::Misuse, "separator"),
        (valid().topic_of(TopicOf::Prefix(0)), ErrorKind::Config, "separator"),
        (valid().on_batch("b", 0, |_| async {}), ErrorKind::Config, "limit of a batch is 0"),
        (valid().concurrency(0), ErrorKind::Config, "concurrency is 0"),
        (valid().lane_capacity(0), ErrorKind::Config, "lane_capacity is 0"),
        (valid().lane_bytes(8_191), ErrorKind::Config, "lane_bytes is 8191, at least 8192"),
        (valid().retry(Retry::new(0)), ErrorKind::Config, "attempts is 0"),
    ] {
        let listener = Listener::connect(server.url()).await.unwrap();
        let handle = listener.handle();
        let error = dispatcher.run(listener).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(handle.channels().await.unwrap_or_default().is_empty());
    }
    let largest = valid().concurrency(usize::MAX).lane_capacity(usize::MAX).lane_bytes(usize::MAX);
    let listener = Listener::connect(server.url()).await.unwrap();
    let running = largest.run(listener).await.unwrap();
    running.stop(Duration::ZERO).await;
}
