//! Many channels, and one of them refused, after a reconnect.

use std::time::Duration;

use pgbell::{ChannelState, Event, Listener, State};

use crate::support::{PATIENCE, Server, next, run, until};

/// Every statement that restores it is in the server's log.
#[test]
fn ten_thousand_channels_come_back_in_groups_within_three_round_trips() {
    let server = Server::logging();
    run(async {
        let names: Vec<String> = (0..10_000).map(|n| format!("channel {n}")).collect();
        let builder = Listener::builder(server.url()).channels(names.iter().map(String::as_str));
        let builder = builder.backoff(Duration::from_millis(10), Duration::from_millis(50));
        let mut listener = builder.connect().await.unwrap();
        server.cluster.terminate_backend(listener.process_id().unwrap()).unwrap();
        let event = tokio::time::timeout(PATIENCE, listener.recv()).await.unwrap().unwrap();
        let Event::Gap(gap) = event else { panic!("{event:?}") };
        let took = gap.restored_at().duration_since(gap.lost_at()).unwrap();
        let channels = listener.handle().channels().await.unwrap();
        let active = |state: &ChannelState| matches!(state, ChannelState::Active);
        assert_eq!(channels.iter().filter(|(_, state)| active(state)).count(), 10_000);
        // One message for each group of 64: pipelined, they are one round trip.
        let statements = server.statements_of(listener.process_id());
        let groups = statements.iter().filter(|sql| sql.starts_with("LISTEN")).count();
        assert_eq!(groups, 10_000_usize.div_ceil(64));
        println!(
            "10,000 channels came back {took:?} after the loss, in {groups} pipelined queries"
        );
        server.notifier().await.notify("channel 9999", "x").await.unwrap();
        assert_eq!(next(&mut listener).await.channel(), "channel 9999");
        listener.close().await.unwrap();
    });
}

/// R9. What makes a server refuse one channel of many: its encoding does not know the name.
#[test]
fn r9_a_refused_channel_isolates_itself_and_the_gap_names_it() {
    let server = Server::start();
    run(async {
        let mut admin = server.connection().await;
        admin.simple_query(
            "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
        ).await.unwrap();
        let cluster = &server.cluster;
        let url = |name: &str| cluster.url(cluster.superuser(), cluster.superuser_password(), name);
        let names: Vec<String> = (0..100).map(|n| format!("c{n}")).collect();
        let builder = Listener::builder(url("latin")).channels(names);
        let builder = builder.backoff(Duration::from_millis(10), Duration::from_millis(50));
        let mut listener = builder.connect().await.unwrap();
        let handle = listener.handle();
        // Refused at once while a session is up …
        let error = handle.listen("漢").await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("22P05"), "{error}");
        // … and wished for while none is.
        tokio::task::block_in_place(|| cluster.stop(pgbell_testkit::Mode::Immediate).unwrap());
        until("the loss is noticed", || handle.state() == State::Reconnecting).await;
        assert_eq!(handle.listen("漢").await.unwrap(), pgbell::Listening::Pending);
        tokio::task::block_in_place(|| cluster.start_again().unwrap());
        let event = tokio::time::timeout(PATIENCE, listener.recv()).await.unwrap().unwrap();
        let Event::Gap(gap) = event else { panic!("{event:?}") };
        let [(refused, error)] = gap.refused() else { panic!("{gap:?}") };
        assert_eq!((refused.as_str(), error.sqlstate()), ("漢", Some("22P05")));
        for (name, state) in handle.channels().await.unwrap() {
            match state {
                ChannelState::Refused(error) => {
                    assert_eq!((&*name, error.sqlstate()), ("漢", Some("22P05")))
                }
                state => assert!(matches!(state, ChannelState::Active), "{name}: {state:?}"),
            }
        }
        let mut writer = pgbell::Connection::connect(url("latin")).await.unwrap();
        writer.notify("c99", "x").await.unwrap();
        assert_eq!(next(&mut listener).await.channel(), "c99");
        listener.close().await.unwrap();
    });
}
