//! `pgbell::blocking`: threads without async.

mod ending;
mod hook;
mod in_runtime;
#[cfg(feature = "json")]
mod json;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use pgbell::blocking::{Connection, Listener, Notifier};
use pgbell::testing::{Answer, BackendConfig, Server};
use pgbell::{ErrorKind, Event, Listening, Loss, State};
use tokio::runtime::{Builder, Runtime};

/// Longer than any step of a test.
const LONG: Duration = Duration::from_secs(60);

/// A server, and the runtime that drives it. The tests are in no runtime.
struct Scene {
    server: Server,
    _runtime: Runtime,
}

impl Scene {
    fn new() -> Self {
        Self::with(BackendConfig::new())
    }

    fn with(config: BackendConfig) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(Server::start(config)).unwrap();
        Self { server, _runtime: runtime }
    }

    fn url(&self) -> String {
        self.server.url()
    }

    fn listener(&self, channels: &[&str]) -> Listener {
        Listener::builder(self.url()).channels(channels.iter().copied()).connect().unwrap()
    }

    /// Sends numbers.
    fn notify(&self, channel: &str, numbers: std::ops::Range<u64>) {
        for number in numbers {
            self.server.notify(channel, &number.to_string()).unwrap();
        }
    }

    fn until_no_session(&self) {
        let is_so = |backend: &pgbell::testing::Backend| backend.sessions().count() == 0;
        self.server.blocking_wait_until(LONG, is_so).unwrap();
    }
}

fn number(event: Event) -> u64 {
    match event {
        Event::Notification(n) => n.payload().parse().unwrap(),
        loss => panic!("{loss:?}"),
    }
}

/// Receives the next event, within the time of a test.
fn next(listener: &mut Listener) -> Event {
    listener.recv_timeout(LONG).unwrap().expect("nothing arrives")
}

#[test]
fn each_way_to_receive_returns_the_next_notifications_in_order() {
    let scene = Scene::new();
    let mut listener = scene.listener(&[]);
    assert_eq!(listener.listen("a").unwrap(), Listening::Active);
    assert!(listener.try_recv().unwrap().is_none());
    scene.notify("a", 0..8);
    assert_eq!(number(listener.recv().unwrap()), 0);
    assert_eq!(number(next(&mut listener)), 1);
    assert_eq!(number(listener.iter().next().unwrap().unwrap()), 2);
    let batch = listener.recv_batch_max(1).unwrap();
    assert_eq!(batch.iter().map(|n| n.payload_bytes()).collect::<Vec<_>>(), [b"3"]);
    let mut found = 4;
    while found < 8 {
        let batch = listener.recv_batch_timeout(LONG).unwrap().expect("nothing arrives");
        for n in batch {
            assert_eq!(n.payload_bytes(), found.to_string().as_bytes());
            found += 1;
        }
    }
    assert!(listener.recv_batch_timeout(Duration::ZERO).unwrap().is_none());
    scene.notify("a", 8..9);
    assert_eq!(listener.recv_batch().unwrap().len(), 1);
    listener.unlisten("a").unwrap();
    assert!(listener.handle().channels().unwrap().is_empty());
    assert_eq!(listener.stats().received, 9);
    listener.close();
    scene.until_no_session();
}

#[test]
fn a_hundred_thousand_notifications_of_several_threads_arrive_and_none_is_lost() {
    const THREADS: usize = 4;
    const EACH: u64 = 25_000;
    let scene = Scene::new();
    let mut listener = Listener::builder(scene.url())
        .channels(["a"])
        .overflow(pgbell::Overflow::Block { max_stall: LONG })
        .connect()
        .unwrap();
    let notifier = Notifier::connect(scene.url()).unwrap();
    let senders: Vec<_> = (0..THREADS)
        .map(|thread| {
            let notifier = notifier.clone();
            thread::spawn(move || {
                for first in (0..EACH).step_by(500) {
                    let payloads = (first..first + 500).map(|n| ("a", format!("{thread} {n}")));
                    assert_eq!(notifier.notify_many(payloads).unwrap(), 500);
                }
            })
        })
        .collect();
    let mut next_of = [0; THREADS];
    for _ in 0..EACH * THREADS as u64 {
        let Event::Notification(n) = next(&mut listener) else { panic!("a loss") };
        let (thread, number) = n.payload().split_once(' ').unwrap();
        let next = &mut next_of[thread.parse::<usize>().unwrap()];
        assert_eq!(number.parse::<u64>().unwrap(), *next);
        *next += 1;
    }
    assert!(listener.try_recv().unwrap().is_none());
    for sender in senders {
        sender.join().unwrap();
    }
    notifier.close();
    listener.close();
    scene.until_no_session();
}

#[test]
fn a_timeout_ends_a_receive_after_its_time_and_loses_nothing() {
    let scene = Scene::new();
    let mut listener = scene.listener(&["a"]);
    let mut connection = Connection::connect(scene.url()).unwrap();
    connection.listen("a").unwrap();
    for timeout in [Duration::ZERO, Duration::from_micros(300), Duration::from_millis(30)] {
        let begin = Instant::now();
        assert!(listener.recv_timeout(timeout).unwrap().is_none());
        assert!(listener.recv_batch_timeout(timeout).unwrap().is_none());
        assert!(connection.recv_batch_timeout(timeout).unwrap().is_none());
        let took = begin.elapsed();
        assert!(took >= 3 * timeout, "{took:?} for {timeout:?}");
        // A loaded machine wakes late.
        assert!(took < timeout + Duration::from_secs(10), "{took:?} for {timeout:?}");
    }
    scene.notify("a", 0..1);
    assert_eq!(number(next(&mut listener)), 0);
    assert_eq!(connection.recv_batch_timeout(LONG).unwrap().unwrap().len(), 1);
    // Too long for the clock: no limit.
    scene.notify("a", 1..2);
    assert_eq!(number(listener.recv_timeout(Duration::MAX).unwrap().unwrap()), 1);
    assert_eq!(connection.recv_batch_timeout(Duration::MAX).unwrap().unwrap().len(), 1);
}

/// In the thread that calls, in a background thread, and in that of a listener with a hook. An earlier version waited for the next tick of the
/// timer, one to two milliseconds.
#[test]
fn a_receive_without_time_reads_what_is_there_and_does_not_wait_for_a_timer() {
    let times = |connection: &mut Connection, timeout| {
        let mut all: Vec<_> = (0..200)
            .map(|_| {
                let begin = Instant::now();
                assert!(connection.recv_batch_timeout(timeout).unwrap().is_none());
                begin.elapsed()
            })
            .collect();
        all.sort();
        all
    };
    let poll = move |connection: &mut Connection| {
        connection.listen("a").unwrap();
        let none = times(connection, Duration::ZERO);
        let tick = times(connection, Duration::from_nanos(1));
        connection.notify("a", "1").unwrap();
        connection.unlisten("a").unwrap();
        let found = connection.recv_batch_timeout(Duration::ZERO).unwrap().map(|batch| batch.len());
        // On a loaded machine most receives are slow, and so the shortest is compared. One tick may be short, but not a quarter of them.
        (none[0] < tick[50] / 2, found)
    };
    let scene = Scene::new();
    let mut connection = Connection::connect(scene.url()).unwrap();
    assert_eq!(poll(&mut connection), (true, Some(1)));
    let runtime = Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(async { poll(&mut connection) }), (true, Some(1)));
    let (sender, found) = mpsc::channel();
    let builder = Listener::builder(scene.url()).on_live(move |mut connection, _| {
        sender.send(poll(&mut connection)).unwrap();
        Ok(())
    });
    let listener = builder.connect().unwrap();
    assert_eq!(found.recv_timeout(LONG).unwrap(), (true, Some(1)));

    // What arrives is found without a wait, as soon as it is there.
    connection.listen("a").unwrap();
    scene.notify("a", 0..1);
    let begin = Instant::now();
    while connection.recv_batch_timeout(Duration::ZERO).unwrap().is_none() {
        assert!(begin.elapsed() < LONG, "it is not noticed");
    }
    listener.close();
}

/// A thread that is parked, and one that is about to be.
#[test]
fn a_notification_wakes_a_thread_that_waits() {
    let scene = Scene::new();
    let mut listener = scene.listener(&["a"]);
    let (received, arrived) = mpsc::channel();
    let consumer = thread::spawn(move || {
        for event in &mut listener {
            received.send(number(event.unwrap())).unwrap();
        }
    });
    for expected in 0..300 {
        scene.notify("a", expected..expected + 1);
        assert_eq!(arrived.recv_timeout(LONG).unwrap(), expected);
    }
    scene.server.terminate_all();
    drop(arrived);
    // The next event is a gap, which is no number.
    assert!(consumer.join().is_err());
}

#[test]
fn a_lost_session_is_a_gap_between_what_was_before_and_after() {
    let scene = Scene::new();
    let builder = Listener::builder(scene.url()).channels(["a"]);
    let mut listener = builder.backoff(Duration::from_millis(1), LONG).connect().unwrap();
    scene.notify("a", 0..3);
    for expected in 0..3 {
        assert_eq!(number(next(&mut listener)), expected);
    }
    scene.server.kill_all();
    let Event::Gap(gap) = next(&mut listener) else { panic!("no gap") };
    assert_eq!(gap.cause().kind(), ErrorKind::Connect);
    assert_eq!(listener.state(), State::Connected);
    scene.notify("a", 3..5);
    let batch = listener.recv_batch().unwrap();
    assert!(batch.loss().is_none() && batch.iter().next().unwrap().epoch() == 2);
    assert_eq!(listener.stats().gaps, 1);
    scene.server.kill_all();
    loop {
        let batch = listener.recv_batch_timeout(LONG).unwrap().expect("nothing arrives");
        if let Some(Loss::Gap(_)) = batch.loss() {
            break;
        }
    }
}

#[test]
fn a_connection_has_the_calls_of_the_asynchronous_one() {
    let scene = Scene::new();
    scene.server.answer("SELECT name FROM stock", Answer::rows(["name"]).row(["ink"]));
    let mut connection = Connection::connect(scene.url()).unwrap();
    let rows = connection.simple_query("SELECT name FROM stock").unwrap();
    assert_eq!(rows[0].get(0).unwrap().get(0), Some("ink"));
    connection.listen_all(["a", "b"]).unwrap();
    connection.simple_query("BEGIN").unwrap();
    assert_eq!(connection.transaction_status(), pgbell::TransactionStatus::InTransaction);
    connection.notify("a", "in a transaction").unwrap();
    assert!(connection.recv_batch_timeout(Duration::ZERO).unwrap().is_none());
    connection.simple_query("COMMIT").unwrap();
    assert_eq!(connection.recv_batch().unwrap().len(), 1);
    connection.unlisten("a").unwrap();
    connection.unlisten_all().unwrap();
    assert_eq!(connection.notify("", "x").unwrap_err().kind(), ErrorKind::Misuse);
    assert_eq!(connection.simple_query("SELEC").unwrap_err().kind(), ErrorKind::Server);
    assert!(connection.parameter("server_version").is_some());
    assert!(connection.process_id().is_some());
    connection.close();
    scene.until_no_session();
}

#[test]
fn a_notifier_returns_the_refusal_of_its_own_call() {
    let scene = Scene::new();
    let mut listener = scene.listener(&["a"]);
    let notifier = Notifier::builder(scene.url()).topic_separator(b'/').connect().unwrap();
    assert_eq!(notifier.notify("", "x").unwrap_err().kind(), ErrorKind::Misuse);
    notifier.notify("a", "1").unwrap();
    notifier.notify_topic("a", "t", "2").unwrap();
    assert_eq!(number(next(&mut listener)), 1);
    let Event::Notification(n) = next(&mut listener) else { panic!("a loss") };
    assert_eq!((n.payload(), Some(n.process_id())), ("t/2", notifier.process_id()));
    assert_eq!(notifier.state(), State::Connected);
    assert!(notifier.wait_state_timeout(State::Connected, LONG).unwrap());
    assert!(!notifier.wait_state_timeout(State::Closed, Duration::ZERO).unwrap());
    let other = notifier.clone();
    notifier.close();
    assert_eq!(other.notify("a", "3").unwrap_err().kind(), ErrorKind::Closed);
    other.wait_state(State::Closed).unwrap();
}

#[test]
fn a_scope_ends_with_its_value() {
    let scene = Scene::new();
    let mut listener = scene.listener(&["a"]);
    let mut scope = listener.scope(["b", "c"]).unwrap();
    assert_eq!(scope.listening(), Listening::Active);
    assert_eq!(scope.channels().collect::<Vec<_>>(), ["b", "c"]);
    scene.notify("b", 0..4);
    assert_eq!(number(scope.recv().unwrap()), 0);
    assert_eq!(number(scope.recv_timeout(LONG).unwrap().unwrap()), 1);
    assert_eq!(number(scope.iter().next().unwrap().unwrap()), 2);
    let mut rest = 0;
    while rest < 1 {
        rest += scope.recv_batch_timeout(LONG).unwrap().unwrap().len();
    }
    assert!(scope.try_recv().unwrap().is_none());
    scope.leave().unwrap();
    assert_eq!(scene.server.notify("b", "x").unwrap(), 0);
    drop(listener.scope(["d"]).unwrap());
    // The scope waits for the answer to the UNLISTEN of the one before.
    let scope = listener.scope(["e"]).unwrap();
    assert_eq!(scene.server.notify("d", "x").unwrap(), 0);
    drop(scope);
    scene.notify("a", 7..8);
    assert_eq!(number(next(&mut listener)), 7);
}

#[test]
fn settings_are_those_of_the_asynchronous_builder() {
    let scene = Scene::new();
    let refused = Listener::builder(scene.url()).queue_capacity(0).connect().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    let refused = Notifier::builder(scene.url()).queue_bytes(0).connect().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    let refused = Connection::connect("host=x nonsense=1").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    let builder = Listener::builder(scene.url()).channels(["a"]).queue_capacity(2);
    let builder = builder.overflow(pgbell::Overflow::DropNewest).pin_limit_bytes(0);
    let mut listener = builder.connect().unwrap();
    scene.notify("a", 0..5);
    while listener.stats().received < 5 {
        thread::yield_now();
    }
    let lost: u64 = (0..3)
        .map(|_| match next(&mut listener) {
            Event::Lagged(lagged) => lagged.count(),
            _ => 0,
        })
        .sum();
    assert_eq!(lost, 3);
}

#[test]
fn a_nudge_of_a_thread_arrives_and_does_not_block() {
    let scene = Scene::new();
    let mut listener = scene.listener(&["jobs"]);
    let notifier = Notifier::connect(scene.url()).unwrap();
    notifier.nudge("jobs", "7");
    let event = listener.recv_timeout(LONG).unwrap().unwrap();
    assert_eq!(number(event), 7);
    assert!(notifier.last_nudge_error().is_none());
    notifier.close();
}
