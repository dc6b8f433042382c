//! Servers that stop, crash, start again, and are replaced.

use std::time::Duration;

use pgbell::{Listener, ListenerBuilder, State};
use pgbell_testkit::{Auth, Cluster, Mode};

use super::sequence::{Account, CHANNEL, Receiver, Writer};
use crate::support::{Server, TEST_TIMEOUT, run, until};

fn builder(url: &str) -> ListenerBuilder {
    let builder = Listener::builder(url).channels([CHANNEL]).queue_capacity(500_000);
    builder.backoff(Duration::from_millis(10), Duration::from_millis(200))
}

async fn connected(handle: &pgbell::ListenerHandle) {
    tokio::time::timeout(TEST_TIMEOUT, handle.wait_state(State::Connected)).await.unwrap().unwrap();
}

/// R2.
#[test]
fn a_listener_reconnects_after_every_kind_of_server_stop() {
    let server = Server::start();
    run(async {
        let listener = builder(&server.url()).connect().await.unwrap();
        let handle = listener.handle();
        let writer = Writer::start(server.url());
        let receiver = Receiver::start(listener);
        type Stop = fn(&Cluster);
        let stops: [(&str, Stop); 4] = [
            ("fast", |cluster| cluster.stop(Mode::Fast).unwrap()),
            ("immediate", |cluster| cluster.stop(Mode::Immediate).unwrap()),
            ("kill -9 of the postmaster", |cluster| cluster.kill_postmaster().unwrap()),
            ("fast again", |cluster| cluster.stop(Mode::Fast).unwrap()),
        ];
        for (index, (how, stop)) in stops.into_iter().enumerate() {
            writer.wait_for_commits(3).await;
            tokio::task::block_in_place(|| stop(&server.cluster));
            until(how, || handle.state() == State::Reconnecting).await;
            let error = handle.last_error().unwrap();
            report!("{how}: {error}");
            tokio::task::block_in_place(|| server.cluster.start_again().unwrap());
            connected(&handle).await;
            assert!(handle.stats().sessions_lost > index as u64, "{how}");
        }
        let (account, listener) = receiver.finish(writer).await;
        assert!(account.gaps >= 4, "{account:?}");
        assert_eq!(account.sessions, listener.stats().sessions_lost, "{account:?}");
        listener.close().await;
    });
}

/// R2: Another backend crashes: the server ends all sessions with a WARNING 57P02 and starts recovery.
#[test]
fn a_listener_reconnects_after_the_crash_of_another_backend_and_reports_the_reason() {
    let server = Server::start();
    run(async {
        let mut listener = builder(&server.url()).connect().await.unwrap();
        let writer = Writer::start(server.url());
        let mut account = Account::default();
        writer.wait_for_commits(5).await;
        account.receive_up_to(&mut listener, writer.last()).await;
        let victim = server.connection().await;
        let process_id = victim.process_id().unwrap();
        server.cluster.signal_backend(process_id, pgbell_testkit::Signal::Kill).unwrap();
        until("another session is there", || listener.stats().sessions == 2).await;
        let handle = listener.handle();
        connected(&handle).await;
        let last = writer.stop().await;
        account.receive_up_to(&mut listener, last).await;
        assert_eq!((account.gaps, account.sessions), (1, 1), "{account:?}");
        listener.close().await;
    });
}

#[test]
fn a_promoted_standby_takes_over_and_the_gap_reports_it() {
    let server = Server::start();
    let standby = server.cluster.standby().unwrap_or_else(|error| panic!("{error}"));
    standby.wait_caught_up(&server.cluster).unwrap();
    run(async {
        let (one, two) = (&server.cluster, &standby);
        let conninfo = format!(
            "host={},{} port={},{} user={} password={} dbname=postgres connect_timeout=5",
            one.host(),
            two.host(),
            one.port(),
            two.port(),
            one.superuser(),
            one.superuser_password()
        );
        let mut listener = builder(&conninfo).connect().await.unwrap();
        let writer = Writer::start(conninfo.clone() + " target_session_attrs=read-write");
        let mut account = Account::default();
        writer.wait_for_commits(5).await;
        account.receive_up_to(&mut listener, writer.last()).await;
        tokio::task::block_in_place(|| {
            one.stop(Mode::Immediate).unwrap();
            two.promote().unwrap();
        });
        let handle = listener.handle();
        until("another session is there", || handle.stats().sessions >= 2).await;
        connected(&handle).await;
        writer.wait_for_commits(5).await;
        let last = writer.stop().await;
        account.receive_up_to(&mut listener, last).await;
        assert!(account.gaps >= 1, "{account:?}");
        listener.close().await;
    });
}

/// P2, P8.
#[test]
fn without_reconnecting_a_lost_session_is_one_error_and_the_end() {
    let server = Server::start();
    run(async {
        let mut listener = builder(&server.url()).reconnect(false).connect().await.unwrap();
        server.cluster.terminate_backend(listener.process_id().unwrap()).unwrap();
        let error = listener.recv().await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("57P01"), "{error}");
        assert_eq!(listener.recv().await.unwrap_err().kind(), pgbell::ErrorKind::Closed);
        assert_eq!(listener.state(), State::Closed);
    });
}

/// If a password was changed, the old one is not tried repeatedly: a server that counts failures would
/// lock the role.
#[test]
fn a_refused_login_ends_the_listener_after_the_gap() {
    let server = Server::with(|builder| builder.auth(Auth::ScramSha256));
    run(async {
        let mut admin = server.connection().await;
        admin.simple_query("CREATE ROLE bell LOGIN PASSWORD 'first'").await.unwrap();
        let url = server.cluster.url("bell", "first", "postgres");
        let mut listener = builder(&url).connect().await.unwrap();
        admin.simple_query("ALTER ROLE bell PASSWORD 'second'").await.unwrap();
        server.cluster.terminate_backend(listener.process_id().unwrap()).unwrap();
        let gap = tokio::time::timeout(TEST_TIMEOUT, listener.recv()).await;
        let gap = gap
            .unwrap_or_else(|_| panic!("{:?} {:?}", listener.stats(), listener.last_error()))
            .unwrap();
        assert!(matches!(gap, pgbell::Event::Gap(_)), "{gap:?}");
        let error = tokio::time::timeout(TEST_TIMEOUT, listener.recv()).await;
        let error =
            error.unwrap_or_else(|_| panic!("{:?} {:?}", listener.stats(), listener.last_error()));
        let error = error.unwrap_err();
        assert_eq!(error.kind(), pgbell::ErrorKind::Auth, "{error}");
        assert_eq!(listener.stats().attempts, 2);
    });
}
