//! Many disconnects while a numbered sequence is committed.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use pgbell::{Listener, State, Stats};
use pgbell_testkit::{Cut, Direction, Proxy};

use super::sequence::{CHANNEL, Receiver, Writer};
use crate::support::{Server, run_for, until};

/// The number of disconnects: 50, or the value in the environment.
fn disconnects() -> u64 {
    std::env::var("PGBELL_DISCONNECTS")
        .map_or(50, |n| n.parse().expect("PGBELL_DISCONNECTS: a number"))
}

/// The seed of the random numbers: the value in the environment, or another one each time.
fn seed() -> u64 {
    match std::env::var("PGBELL_SEED") {
        Ok(seed) => seed.parse().expect("PGBELL_SEED: a number"),
        Err(_) => RandomState::new().build_hasher().finish(),
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (number ^ (number >> 31)) % end
    }
}

/// A generous time limit for this number.
fn time_limit() -> Duration {
    Duration::from_secs(60) + Duration::from_millis(500) * u32::try_from(disconnects()).unwrap()
}

/// A login, which the cut may hit, has about half of these bytes.
const BYTES_MAX: u64 = 1_500;

/// Returns the number of lost sessions and failed attempts.
fn ended(stats: &Stats) -> u64 {
    stats.sessions_lost + stats.attempts_failed
}

async fn listener(url: &str) -> Listener {
    let builder = Listener::builder(url).channels([CHANNEL]);
    let builder = builder.backoff(Duration::from_millis(10), Duration::from_millis(100));
    // The consumer is fast enough: missing numbers must be in a gap.
    builder.queue_capacity(500_000).connect().await.unwrap()
}

/// R1, P7, P9. Promise S3.
#[test]
fn every_number_arrives_once_in_order_or_is_in_a_gap_whenever_the_backend_is_killed() {
    let server = Server::start();
    run_for(time_limit(), async {
        let listener = listener(&server.url()).await;
        let handle = listener.handle();
        let writer = Writer::start(server.url());
        let receiver = Receiver::start(listener);
        for killed in 0..disconnects() {
            writer.wait_for_commits(killed % 7).await;
            let process_id = handle.process_id().expect("it is connected");
            server.cluster.terminate_backend(process_id).unwrap();
            // Counters change before the state: first the new session, then `Connected`.
            until("another session is there", || handle.stats().sessions > killed + 1).await;
            handle.wait_state(State::Connected).await.unwrap();
        }
        let (account, listener) = receiver.finish(writer).await;
        let stats = listener.stats();
        assert_eq!((account.lagged, account.sessions), (0, disconnects()), "{account:?}");
        assert_eq!(stats.sessions_lost, disconnects());
        assert_eq!(stats.sessions, disconnects() + 1);
        report!("{} backends killed: {account:?}, {stats:?}", disconnects());
        listener.close().await;
    });
}

/// P9.
#[test]
fn every_number_arrives_once_in_order_or_is_in_a_gap_when_the_network_resets_at_any_byte() {
    let seed = seed();
    report!("PGBELL_SEED={seed}");
    let mut random = Random(seed);
    let server = Server::start();
    let proxy = Proxy::start(server.cluster.port()).unwrap();
    let cluster = &server.cluster;
    let url = proxy.url(cluster.superuser(), cluster.superuser_password(), "postgres");
    // If the answer to a request for TLS is cut, the attempt continues in the clear instead of failing. N94.
    let url = format!("{url}?sslmode=disable");
    run_for(time_limit(), async {
        let listener = listener(&url).await;
        let handle = listener.handle();
        let writer = Writer::start(server.url());
        let receiver = Receiver::start(listener);
        for cut in 0..disconnects() {
            let how = if random.below(3) == 0 { Cut::Fin } else { Cut::Reset };
            // In the middle of a login, a LISTEN or a notification.
            let bytes = random.below(BYTES_MAX);
            proxy.handle().cut_after(Direction::ToClient, bytes, how);
            writer.wait_for_commits(1).await;
            let what = format!("cut {cut} of seed {seed}, {how:?} after {bytes} bytes, is noticed");
            until(&what, || ended(&handle.stats()) > cut).await;
            // One cut ends exactly one session or attempt.
            assert_eq!(ended(&handle.stats()), cut + 1, "seed {seed}");
        }
        handle.wait_state(State::Connected).await.unwrap();
        let (account, listener) = receiver.finish(writer).await;
        let stats = listener.stats();
        assert_eq!((account.lagged, account.sessions), (0, stats.sessions_lost), "{account:?}");
        assert_eq!(ended(&stats), disconnects(), "seed {seed}");
        report!("{} cuts: {account:?}, {stats:?}", disconnects());
        listener.close().await;
    });
}
