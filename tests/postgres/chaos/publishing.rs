//! The session of a notifier is lost again and again while 64 tasks publish: what is committed arrives exactly once, what was refused or
//! not sent never arrives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pgbell::{Error, ErrorKind, Event, Listener, Notifier, NotifierStats, State};
use pgbell_testkit::{Cut, Direction, Proxy};
use tokio::task::JoinHandle;

use crate::support::{Server, TEST_TIMEOUT, run_for, until, until_gone};

const CALLERS: usize = 64;

/// The payload that many callers send: equal ones are not folded by the server.
const EQUAL: &str = "equal";

/// The number of lost sessions: 50, or the value in the environment.
fn disconnects() -> u64 {
    std::env::var("PGBELL_DISCONNECTS")
        .map_or(50, |n| n.parse().expect("PGBELL_DISCONNECTS: a number"))
}

/// A generous time limit for this number.
fn time_limit() -> Duration {
    Duration::from_secs(60) + Duration::from_millis(500) * u32::try_from(disconnects()).unwrap()
}

/// How often each payload must arrive, at least and at most.
type Expected = BTreeMap<String, (u64, u64)>;

/// The tasks that publish.
struct Callers {
    tasks: Vec<JoinHandle<Expected>>,
    has_ended: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
}

impl Callers {
    fn start(notifier: &Notifier) -> Self {
        let (has_ended, committed) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let tasks = (0..CALLERS).map(|caller| {
            let (notifier, has_ended) = (notifier.clone(), has_ended.clone());
            let committed: Arc<AtomicU64> = Arc::clone(&committed);
            tokio::spawn(async move {
                let mut expected = Expected::new();
                let mut number = 0_u64;
                while !has_ended.load(Ordering::Acquire) {
                    number += 1;
                    let payloads = payloads(caller, number);
                    let end = match &payloads[..] {
                        [payload] => notifier.notify("ch", payload).await,
                        many => {
                            notifier.notify_many(many.iter().map(|p| ("ch", p))).await.map(drop)
                        }
                    };
                    committed.fetch_add(u64::from(end.is_ok()), Ordering::Release);
                    let (min, max) = allowed(&payloads, end);
                    for payload in payloads {
                        let sums = expected.entry(payload).or_default();
                        *sums = (sums.0 + min, sums.1 + max);
                    }
                }
                expected
            })
        });
        Self { tasks: tasks.collect(), has_ended, committed }
    }

    async fn wait_for_commits(&self, more: u64) {
        let wanted = self.committed.load(Ordering::Acquire) + more;
        until("more is committed", || self.committed.load(Ordering::Acquire) >= wanted).await;
    }

    async fn finish(self) -> Expected {
        self.has_ended.store(true, Ordering::Release);
        let mut all = Expected::new();
        for task in self.tasks {
            for (payload, (min, max)) in task.await.unwrap() {
                let sums = all.entry(payload).or_default();
                *sums = (sums.0 + min, sums.1 + max);
            }
        }
        all
    }
}

/// Most calls send a payload of their own. Some send equal ones, some have a character that the server refuses, some are a
/// transaction of several.
fn payloads(caller: usize, number: u64) -> Vec<String> {
    match number % 16 {
        3 | 7 => vec![EQUAL.to_owned()],
        5 if caller.is_multiple_of(8) => vec![format!("{caller} {number} €")],
        11 => (0..3).map(|part| format!("{caller} {number} {part}")).collect(),
        _ => vec![format!("{caller} {number}")],
    }
}

/// Returns how often each notification of a call may arrive.
fn allowed(payloads: &[String], end: Result<(), Error>) -> (u64, u64) {
    let is_invalid = payloads.iter().any(|payload| payload.contains('€'));
    match end {
        Ok(()) => {
            assert!(!is_invalid, "{payloads:?} was committed");
            (1, 1)
        }
        Err(error) => match (error.kind(), error.sqlstate()) {
            (ErrorKind::InDoubt, _) => (0, 1),
            (ErrorKind::Server, Some("22P05")) => {
                assert!(is_invalid, "{payloads:?} was refused for another one");
                (0, 0)
            }
            (ErrorKind::Timeout, None) => (0, 0),
            _ => panic!("{payloads:?}: {error:#}"),
        },
    }
}

/// Counts what arrives, up to a payload `end`.
fn count(mut listener: Listener) -> JoinHandle<BTreeMap<String, u64>> {
    tokio::spawn(async move {
        let mut arrived = BTreeMap::new();
        loop {
            match listener.recv().await.unwrap() {
                Event::Notification(one) if one.payload() == "end" => return arrived,
                Event::Notification(one) => {
                    *arrived.entry(one.payload().to_owned()).or_insert(0) += 1;
                }
                loss => panic!("the listener has lost something: {loss:?}"),
            }
        }
    })
}

/// Compares what has arrived with what may have. Reports how many payloads there were of each kind, without those that several callers
/// send.
fn check(expected: &Expected, arrived: &BTreeMap<String, u64>) {
    for payload in arrived.keys() {
        assert!(expected.contains_key(payload), "{payload:?} was never sent");
    }
    let (mut once, mut never, mut in_doubt, mut in_doubt_arrived) = (0_u64, 0_u64, 0_u64, 0_u64);
    for (payload, (min, max)) in expected {
        let count = arrived.get(payload).copied().unwrap_or(0);
        assert!((*min..=*max).contains(&count), "{payload:?}: {count} of {min} to {max}");
        match (*min, *max) {
            _ if payload == EQUAL => {}
            (0, 0) => never += 1,
            (0, _) => (in_doubt, in_doubt_arrived) = (in_doubt + 1, in_doubt_arrived + count),
            _ => once += 1,
        }
    }
    assert!(once > 0 && never > 0, "{once} committed, {never} refused");
    let equal = expected.get(EQUAL).copied().unwrap_or_default();
    report!(
        "{once} committed, each arrived once; {never} refused or not sent, none arrived; {in_doubt} in doubt, {in_doubt_arrived} of them \
         arrived; of the equal ones {} arrived, {} committed, {} at most",
        arrived.get(EQUAL).copied().unwrap_or(0),
        equal.0,
        equal.1,
    );
}

fn check_stats(stats: &NotifierStats) {
    assert_eq!(stats.calls, stats.committed + stats.refused + stats.in_doubt + stats.not_sent);
    assert!(stats.groups > 0 && stats.halved > 0 && stats.refused > 0, "{stats:?}");
    report!("{stats:?}");
}

/// A server whose encoding has no euro sign, and a listener that loses nothing.
async fn listener(server: &Server) -> Listener {
    let builder = Listener::builder(server.url()).channels(["ch"]);
    builder.queue_capacity(500_000).queue_bytes(1 << 28).connect().await.unwrap()
}

async fn notifier(url: &str) -> Notifier {
    let builder = Notifier::builder(url);
    builder.backoff(Duration::from_millis(10), Duration::from_millis(100)).connect().await.unwrap()
}

#[test]
fn what_is_committed_arrives_exactly_once_whenever_the_backend_of_a_notifier_is_killed() {
    let server = Server::with(|builder| builder.encoding("LATIN1"));
    run_for(time_limit(), async {
        let mut watch = server.connection().await;
        let arrived = count(listener(&server).await);
        let notifier = notifier(&server.url()).await;
        let callers = Callers::start(&notifier);
        for killed in 0..disconnects() {
            callers.wait_for_commits(1 + killed % 97).await;
            let process_id = notifier.process_id();
            server.cluster.terminate_backend(process_id.unwrap()).unwrap();
            until("another session is there", || notifier.stats().sessions > killed + 1).await;
            notifier.wait_state(State::Connected).await.unwrap();
            assert_ne!(notifier.process_id(), process_id);
            // A commit of the old session may be under way.
            until_gone(&mut watch, process_id).await;
        }
        callers.wait_for_commits(100).await;
        let expected = callers.finish().await;
        notifier.notify("ch", "end").await.unwrap();
        let arrived = tokio::time::timeout(TEST_TIMEOUT, arrived).await.unwrap().unwrap();
        check(&expected, &arrived);
        let stats = notifier.stats();
        assert_eq!(stats.sessions, disconnects() + 1);
        check_stats(&stats);
        notifier.close().await;
    });
}

/// The connection is cut between any two bytes, in both directions.
#[test]
fn what_is_committed_arrives_exactly_once_wherever_the_connection_of_a_notifier_is_cut() {
    let server = Server::with(|builder| builder.encoding("LATIN1"));
    let cluster = &server.cluster;
    let proxy = Proxy::start(cluster.port()).unwrap();
    let url = proxy.url(cluster.superuser(), cluster.superuser_password(), "postgres");
    let url = format!("{url}?sslmode=disable");
    run_for(time_limit(), async {
        let mut watch = server.connection().await;
        let arrived = count(listener(&server).await);
        let notifier = notifier(&url).await;
        let callers = Callers::start(&notifier);
        for cut in 0..disconnects() {
            callers.wait_for_commits(1).await;
            let process_id = notifier.process_id();
            let how = if cut % 3 == 0 { Cut::Fin } else { Cut::Reset };
            let to = if cut % 2 == 0 { Direction::ToServer } else { Direction::ToClient };
            let sessions = notifier.stats().sessions;
            proxy.handle().cut_after(to, cut * 997 % 6_007, how);
            until("another session is there", || notifier.stats().sessions > sessions).await;
            until_gone(&mut watch, process_id).await;
        }
        let expected = callers.finish().await;
        notifier.notify("ch", "end").await.unwrap();
        let arrived = tokio::time::timeout(TEST_TIMEOUT, arrived).await.unwrap().unwrap();
        check(&expected, &arrived);
        check_stats(&notifier.stats());
        notifier.close().await;
    });
}
