//! R8. Many clients of one server that restarts must not reconnect all at once.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pgbell::{Event, Listener, State};
use pgbell_testkit::Mode;
use tokio::task::JoinSet;

use crate::support::{Server, TEST_TIMEOUT, next, run_for, until};

/// The number of clients: 100, or the value in the environment.
fn clients() -> u32 {
    std::env::var("PGBELL_CLIENTS").map_or(100, |n| n.parse().expect("PGBELL_CLIENTS: a number"))
}

/// The first attempts of all clients are between these two times after the loss.
const BACKOFF_MIN: Duration = Duration::from_secs(2);
const BACKOFF_MAX: Duration = Duration::from_secs(4);

/// The time in which the server is stopped: every client fails at least once.
const AWAY: Duration = Duration::from_secs(6);

/// The highest share of attempts in a tenth of the time: a tenth, with less than six standard deviations added. A
/// busy machine may delay attempts for a moment.
fn share_max() -> f64 {
    0.1 + 6.0 * (0.1 * 0.9 / f64::from(clients())).sqrt() + 0.05
}

/// Listens on the server's port while it is stopped: accepts, closes, and records the times.
struct StandIn {
    end: Arc<AtomicBool>,
    port: u16,
    acceptor: JoinHandle<Vec<Instant>>,
}

impl StandIn {
    fn start(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let acceptor = std::thread::spawn(move || {
            let mut times = Vec::new();
            loop {
                let connection = listener.accept().unwrap();
                if ended.load(Ordering::Acquire) {
                    return times;
                }
                times.push(Instant::now());
                drop(connection);
            }
        });
        Self { end, port, acceptor }
    }

    fn end(self) -> Vec<Instant> {
        self.end.store(true, Ordering::Release);
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap());
        self.acceptor.join().unwrap()
    }
}

/// Returns the largest number of these sorted times within a window.
fn most_within(times: &[Instant], window: Duration) -> usize {
    let within = |(index, begin): (usize, &Instant)| {
        times[index..].partition_point(|time| *time < *begin + window)
    };
    times.iter().enumerate().map(within).max().unwrap_or(0)
}

async fn connect_all(url: &str) -> Vec<Listener> {
    let mut connecting = JoinSet::new();
    for _ in 0..clients() {
        let builder = Listener::builder(url).channels(["a"]).backoff(BACKOFF_MIN, BACKOFF_MAX);
        connecting.spawn(async move { builder.connect().await.unwrap() });
    }
    connecting.join_all().await
}

#[test]
fn many_clients_of_a_restarted_server_reconnect_spread_out_and_with_one_gap_each() {
    let server =
        Server::with(|builder| builder.setting("max_connections", (clients() + 20).to_string()));
    run_for(4 * TEST_TIMEOUT, async {
        // One connection for each attempt.
        let url = format!("{}?connect_timeout=30&sslmode=disable", server.url());
        let mut listeners = connect_all(&url).await;
        server.notifier().await.notify("a", "before").await.unwrap();
        for listener in &mut listeners {
            assert_eq!(next(listener).await.payload(), "before");
        }
        let attempts_before: u64 = listeners.iter().map(|listener| listener.stats().attempts).sum();
        let lost = Instant::now();
        tokio::task::block_in_place(|| server.cluster.stop(Mode::Fast).unwrap());
        let stand_in = StandIn::start(server.cluster.port());
        let stopped = lost.elapsed();
        until("all have lost their sessions", || {
            listeners.iter().all(|listener| listener.stats().sessions_lost == 1)
        })
        .await;
        until("the server was away for long enough", || lost.elapsed() >= AWAY).await;
        let times = stand_in.end();
        let begin = Instant::now();
        tokio::task::block_in_place(|| server.cluster.start_again().unwrap());
        for listener in &listeners {
            let handle = listener.handle();
            let back =
                tokio::time::timeout(TEST_TIMEOUT, handle.wait_state(State::Connected)).await;
            back.expect("a listener does not reconnect").unwrap();
        }
        let back = begin.elapsed();
        server.notifier().await.notify("a", "after").await.unwrap();
        for listener in &mut listeners {
            let event = tokio::time::timeout(TEST_TIMEOUT, listener.recv()).await.unwrap().unwrap();
            let Event::Gap(gap) = event else { panic!("{event:?}") };
            assert_eq!((gap.sessions(), gap.cause().sqlstate()), (1, Some("57P01")), "{gap}");
            assert_eq!(next(listener).await.payload(), "after");
            assert_eq!((listener.stats().gaps, listener.stats().sessions), (1, 2));
        }
        let attempts: u64 = listeners.iter().map(|listener| listener.stats().attempts).sum();
        let attempts = attempts - attempts_before;
        let count = u64::from(clients());

        // The first wave. The server ends its sessions one after the other, so the wave does not end at one moment.
        assert!(times.len() >= listeners.len(), "{} attempts while it was away", times.len());
        let first = &times[..listeners.len()];
        let within = |times: &[Instant], window| {
            let share = u32::try_from(most_within(times, window)).unwrap();
            f64::from(share) / f64::from(u32::try_from(times.len()).unwrap())
        };
        let share = within(first, BACKOFF_MIN / 10);
        assert!(share <= share_max(), "{share:.3} of the attempts in a tenth of the time");
        // No client waits less than the shortest delay, and one more attempt may meet the starting server.
        let most = count
            * (u64::try_from((AWAY + back).as_millis() / BACKOFF_MIN.as_millis()).unwrap() + 1);
        assert!((count..=most).contains(&attempts), "{attempts} attempts, {most} are allowed");
        report!(
            "{count} clients, a server stopped in {stopped:?} and away for {AWAY:?}: all back {back:?} after its start, \
             one gap each; {attempts} attempts (allowed {most}), {} of them while it was away; at most {share:.3} of the \
             first {count} in a tenth of their window (allowed {:.3}); at most {} attempts in any second",
            times.len(),
            share_max(),
            most_within(&times, Duration::from_secs(1)),
        );
        for listener in listeners {
            listener.close().await;
        }
    });
}
