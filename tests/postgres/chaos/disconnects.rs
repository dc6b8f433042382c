//! Many disconnects while a numbered sequence is committed.

use std::time::Duration;

use pgbell::{Listener, State};
use pgbell_testkit::{Cut, Proxy};

use super::sequence::{CHANNEL, Receiver, Writer};
use crate::support::{Server, run_for, until};

/// How many: 50, or as many as the environment says.
fn disconnects() -> u64 {
    std::env::var("PGBELL_DISCONNECTS")
        .map_or(50, |n| n.parse().expect("PGBELL_DISCONNECTS: a number"))
}

/// A generous bound for so many.
fn patience() -> Duration {
    Duration::from_secs(60) + Duration::from_millis(500) * u32::try_from(disconnects()).unwrap()
}

async fn listener(url: &str) -> Listener {
    let builder = Listener::builder(url).channels([CHANNEL]);
    let builder = builder.backoff(Duration::from_millis(10), Duration::from_millis(100));
    // The consumer is quick enough: whatever is missing must be in a gap.
    builder.queue_capacity(500_000).connect().await.unwrap()
}

#[test]
fn r1_p9_every_number_arrives_once_in_order_or_lies_in_a_gap_whenever_the_backend_is_killed() {
    let server = Server::start();
    run_for(patience(), async {
        let listener = listener(&server.url()).await;
        let handle = listener.handle();
        let writer = Writer::start(server.url());
        let receiver = Receiver::start(listener);
        for killed in 0..disconnects() {
            writer.goes_on(killed % 7).await;
            let process_id = handle.process_id().expect("it is connected");
            server.cluster.terminate_backend(process_id).unwrap();
            // Figures are told before the state: another session first, then that it listens.
            until("another session is there", || handle.stats().sessions > killed + 1).await;
            handle.wait_state(State::Connected).await.unwrap();
        }
        let (account, listener) = receiver.finish(writer).await;
        let stats = listener.stats();
        assert_eq!((account.lagged, account.sessions), (0, disconnects()), "{account:?}");
        assert_eq!(stats.sessions_lost, disconnects());
        assert_eq!(stats.sessions, disconnects() + 1);
        report!("{} backends killed: {account:?}, {stats:?}", disconnects());
        listener.close().await.unwrap();
    });
}

#[test]
fn every_number_arrives_once_in_order_or_lies_in_a_gap_when_the_network_resets_at_any_byte() {
    let server = Server::start();
    let proxy = Proxy::start(server.cluster.port()).unwrap();
    let cluster = &server.cluster;
    let url = proxy.url(cluster.superuser(), cluster.superuser_password(), "postgres");
    run_for(patience(), async {
        let listener = listener(&url).await;
        let handle = listener.handle();
        let writer = Writer::start(server.url());
        let receiver = Receiver::start(listener);
        for cut in 0..disconnects() {
            let lost = handle.stats().sessions_lost;
            let how = if cut % 3 == 0 { Cut::Fin } else { Cut::Reset };
            // In the middle of whatever it is: a login, a LISTEN, a notification.
            proxy.handle().cut_after(
                pgbell_testkit::Direction::ToClient,
                1 + cut * 37 % 1_500,
                how,
            );
            writer.goes_on(1).await;
            let handle = &handle;
            until("the cut is noticed", || {
                handle.stats().sessions_lost > lost || handle.stats().attempts > cut
            })
            .await;
        }
        handle.wait_state(State::Connected).await.unwrap();
        let (account, listener) = receiver.finish(writer).await;
        let stats = listener.stats();
        assert_eq!((account.lagged, account.sessions), (0, stats.sessions_lost), "{account:?}");
        report!("{} cuts: {account:?}, {stats:?}", disconnects());
        listener.close().await.unwrap();
    });
}
