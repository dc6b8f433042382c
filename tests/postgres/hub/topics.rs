//! Topics: many subscriptions on one channel of the server.

use pgbell::{ErrorKind, TopicOf};

use super::{builder, hub, notification, payloads};
use crate::support::{Server, run};

#[test]
fn a_subscription_to_a_topic_receives_the_payloads_of_this_topic_without_it() {
    let server = Server::start();
    run(async {
        let hub = hub(&server).await;
        let notifier = server.notifier().await;
        let mut plain = hub.subscribe("orders").await.unwrap();
        let mut one = hub.subscribe_topic("orders", "1").await.unwrap();
        let mut two = hub.subscribe_topic("orders", "2").await.unwrap();
        for (topic, payload) in [("1", "a"), ("2", "b"), ("1", ""), ("3", "c"), ("1", "x:y")] {
            notifier.notify_topic("orders", topic, payload).await.unwrap();
        }
        notifier.notify("orders", "no topic").await.unwrap();
        assert_eq!(payloads(&mut one, 3).await, ["a", "", "x:y"]);
        assert_eq!(payloads(&mut two, 1).await, ["b"]);
        let whole = payloads(&mut plain, 6).await;
        assert_eq!(whole, ["1:a", "2:b", "1:", "3:c", "1:x:y", "no topic"]);
        assert_eq!(TopicOf::default().split(&whole[4]), Some(("1".into(), "x:y")));
        let channels = hub.handle().channels().await.unwrap();
        assert_eq!(channels.len(), 1);
        hub.close().await;
    });
}

#[test]
fn a_topic_by_a_function_leaves_the_payload_and_a_panic_concerns_one_notification() {
    let server = Server::start();
    run(async {
        let by_first_word = TopicOf::function(|payload| {
            assert_ne!(payload, "panic");
            Some(payload.split(' ').next()?.into())
        });
        let hub = builder(&server).channel_topic_of("words", by_first_word).connect();
        let hub = hub.await.unwrap();
        let notifier = server.notifier().await;
        let mut red = hub.subscribe_topic("words", "red").await.unwrap();
        for payload in ["blue 1", "red 2", "panic", "red 3", "", " "] {
            notifier.notify("words", payload).await.unwrap();
        }
        assert_eq!(payloads(&mut red, 2).await, ["red 2", "red 3"]);
        assert_eq!(hub.stats().topic_panics, 1);
        assert_eq!(red.topic(), Some("red"));
        hub.close().await;
    });
}

#[test]
fn a_topic_that_cannot_be_written_is_refused() {
    let server = Server::start();
    run(async {
        let hub = hub(&server).await;
        let notifier = server.notifier().await;
        for topic in ["", "a:b"] {
            let subscribed = hub.subscribe_topic("orders", topic).await;
            assert_eq!(subscribed.unwrap_err().kind(), ErrorKind::Misuse);
            let notified = notifier.notify_topic("orders", topic, "x").await;
            assert_eq!(notified.unwrap_err().kind(), ErrorKind::Misuse);
        }
        let mut long = hub.subscribe_topic("orders", "42").await.unwrap();
        let payload = "x".repeat(7_999 - 3);
        notifier.notify_topic("orders", "42", &payload).await.unwrap();
        assert_eq!(notification(&mut long).await.payload().len(), 7_996);
        let refused = notifier.notify_topic("orders", "42", payload + "x").await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Misuse);
        assert_eq!(hub.subscribe_many([""; 0]).await.unwrap_err().kind(), ErrorKind::Misuse);
        hub.close().await;
    });
}
