//! Which subscription receives what, and when the server listens.

use pgbell::{ErrorKind, Event, Listening, Overflow, State};

use super::{event, hub, notification, payloads};
use crate::support::{Server, run, until};

#[test]
fn every_subscription_of_a_channel_receives_every_notification_of_it_and_no_other() {
    let server = Server::start();
    run(async {
        let hub = hub(&server).await;
        let notifier = server.notifier().await;
        let mut all = Vec::new();
        for _ in 0..10 {
            all.push(hub.subscribe("a").await.unwrap());
        }
        let mut other = hub.subscribe("b").await.unwrap();
        let mut both = hub.subscribe_many(["a", "b"]).await.unwrap();
        assert_eq!(all[0].listening(), Listening::Active);
        for number in 0..100 {
            let channel = if number % 3 == 0 { "b" } else { "a" };
            notifier.notify(channel, number.to_string()).await.unwrap();
        }
        let numbers = |wanted: fn(u32) -> bool| {
            (0..100).filter(|n| wanted(*n)).map(|n| n.to_string()).collect::<Vec<_>>()
        };
        for subscription in &mut all {
            assert_eq!(payloads(subscription, 66).await, numbers(|n| n % 3 != 0));
        }
        assert_eq!(payloads(&mut other, 34).await, numbers(|n| n % 3 == 0));
        assert_eq!(payloads(&mut both, 100).await, numbers(|_| true));
        let stats = hub.stats();
        assert_eq!((stats.subscriptions, stats.channels), (12, 2));
        assert_eq!((stats.connection.received, stats.connection.delivered), (100, 794));
        assert_eq!((both.stats().received, both.stats().delivered), (100, 100));
        hub.close().await;
        for mut subscription in all {
            assert_eq!(subscription.recv().await.unwrap_err().kind(), ErrorKind::Closed);
        }
    });
}

#[test]
fn the_session_listens_while_there_is_a_subscription_and_not_longer() {
    let server = Server::start();
    run(async {
        let hub = hub(&server).await;
        let handle = hub.handle();
        let names = || async {
            let channels = handle.channels().await.unwrap();
            channels.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let first = hub.subscribe("a").await.unwrap();
        let second = hub.subscribe_topic("a", "1").await.unwrap();
        let third = hub.subscribe_many(["a", "b"]).await.unwrap();
        assert_eq!(names().await, ["a", "b"]);
        drop((first, third));
        while names().await != ["a"] {}
        second.close();
        while !names().await.is_empty() {}
        until("nothing is left", || hub.stats().channels == 0).await;
        assert_eq!(hub.stats().subscriptions, 0);
        hub.close().await;
    });
}

#[test]
fn a_loss_is_reported_to_every_subscription_once_and_nothing_else_is_lost() {
    let server = Server::start();
    run(async {
        let hub = hub(&server).await;
        let handle = hub.handle();
        let notifier = server.notifier().await;
        let mut all = Vec::new();
        for number in 0..20 {
            all.push(hub.subscribe(format!("ch{}", number % 3)).await.unwrap());
        }
        server.cluster.terminate_backend(handle.process_id().unwrap()).unwrap();
        until("it is lost", || hub.stats().connection.sessions_lost == 1).await;
        let mut late = hub.subscribe("ch0").await.unwrap();
        handle.wait_state(State::Connected).await.unwrap();
        until("it has reconnected", || hub.stats().connection.gaps == 1).await;
        for channel in ["ch0", "ch1", "ch2"] {
            notifier.notify(channel, "after").await.unwrap();
        }
        for subscription in &mut all {
            assert!(matches!(event(subscription).await, Event::Gap(_)));
            assert_eq!(notification(subscription).await.payload(), "after");
            assert_eq!(subscription.stats().gaps, 1);
        }
        if late.listening() == Listening::Pending {
            assert!(matches!(event(&mut late).await, Event::Gap(_)));
        }
        assert_eq!(notification(&mut late).await.payload(), "after");
        hub.close().await;
    });
}

#[test]
fn a_full_queue_loses_only_for_its_own_subscription_and_says_how_many() {
    let server = Server::start();
    run(async {
        let hub = hub(&server).await;
        let notifier = server.notifier().await;
        let mut newest = hub.subscribe("a").queue_capacity(10).await.unwrap();
        let oldest = hub.subscribe("a").queue_capacity(10).overflow(Overflow::DropOldest);
        let mut oldest = oldest.await.unwrap();
        let mut all = hub.subscribe("a").await.unwrap();
        let numbers: Vec<_> = (0..500).map(|n| ("a", n.to_string())).collect();
        notifier.notify_many(numbers).await.unwrap();
        assert_eq!(payloads(&mut all, 500).await.len(), 500);
        let first = payloads(&mut newest, 10).await;
        assert_eq!((first[0].as_str(), first[9].as_str()), ("0", "9"));
        let Event::Lagged(lagged) = event(&mut newest).await else { panic!("not lagged") };
        assert_eq!((lagged.first_sequence(), lagged.count()), (10, 490));
        let Event::Lagged(lagged) = event(&mut oldest).await else { panic!("not lagged") };
        assert_eq!((lagged.first_sequence(), lagged.count()), (0, 490));
        let last = payloads(&mut oldest, 10).await;
        assert_eq!((last[0].as_str(), last[9].as_str()), ("490", "499"));
        let refused = hub.subscribe("a").overflow(Overflow::default()).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Config);
        hub.close().await;
    });
}

/// A long notification takes the room of many short ones.
#[test]
fn more_of_the_oldest_are_dropped_than_have_arrived() {
    let server = Server::start();
    run(async {
        let hub = hub(&server).await;
        let notifier = server.notifier().await;
        let subscribe = hub.subscribe("a").queue_bytes(8 * 1024).overflow(Overflow::DropOldest);
        let mut oldest = subscribe.await.unwrap();
        let mut all = hub.subscribe("a").await.unwrap();
        notifier.notify_many((0..100).map(|n| ("a", format!("{n:030}")))).await.unwrap();
        notifier.notify("a", "x".repeat(7_000)).await.unwrap();
        assert_eq!(payloads(&mut all, 101).await[100].len(), 7_000);
        let Event::Lagged(lagged) = event(&mut oldest).await else { panic!("not lagged") };
        // 42 bytes each, and 7,012 for the last one.
        let kept = (8 * 1024 - 7_012) / 42;
        assert_eq!((lagged.first_sequence(), lagged.count()), (0, 100 - kept));
        assert_eq!(payloads(&mut oldest, 1).await[0], format!("{:030}", 100 - kept));
        let stats = hub.stats().connection;
        assert_eq!((stats.delivered, stats.dropped), (202, 100 - kept));
        hub.close().await;
    });
}
