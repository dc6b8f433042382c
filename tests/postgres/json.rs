//! Payloads of JSON: wrong ones, losses among them, and topics that are fields.

use std::collections::HashMap;
use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use pgbell::{
    ErrorKind, Event, Hub, JsonEvent, JsonStream, Listener, Overflow, Subscription, TopicOf,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::{Server, TEST_TIMEOUT, run, until, until_gone, until_received};

#[derive(Debug, PartialEq, Deserialize)]
struct Order {
    id: u32,
}

type Events = dyn Stream<Item = Result<Event, pgbell::Error>> + Send + Unpin;

/// Returns the next event.
async fn event<S, T>(events: &mut JsonStream<S, T>) -> JsonEvent<T>
where
    S: Stream<Item = Result<Event, pgbell::Error>> + Unpin,
    T: DeserializeOwned,
{
    tokio::time::timeout(TEST_TIMEOUT, events.recv()).await.expect("nothing arrives").unwrap()
}

/// Returns the next event in short.
async fn short<S, T>(events: &mut JsonStream<S, T>) -> String
where
    S: Stream<Item = Result<Event, pgbell::Error>> + Unpin,
    T: DeserializeOwned + Debug,
{
    match event(events).await {
        JsonEvent::Value(value, _) => format!("{value:?}"),
        JsonEvent::Invalid(error) => format!("invalid: {}", error.notification().payload()),
        JsonEvent::Lagged(lagged) => format!("lagged {}", lagged.count()),
        loss => format!("loss of {} sessions", sessions(&loss)),
    }
}

fn sessions<T>(event: &JsonEvent<T>) -> u32 {
    match event {
        JsonEvent::Gap(gap) => gap.sessions(),
        _ => 0,
    }
}

/// S9: a payload that is no JSON, or has another shape, is an event at its place, with its notification, and the next one is decoded.
#[test]
fn s9_a_wrong_payload_is_an_event_at_its_place_and_the_stream_continues() {
    let server = Server::start();
    run(async {
        let mut orders = server.listener(&["orders"]).await.json::<Order>();
        let hub = Hub::connect(server.url()).await.unwrap();
        let mut values = hub.subscribe("orders").await.unwrap().json::<Value>();
        let notifier = server.notifier().await;
        // JSON of any kind is a `Value`; only the last ones are an order.
        let deep = "[".repeat(3_999) + &"]".repeat(3_999);
        let deep_objects = "{\"id\":".repeat(1_142) + "1" + &"}".repeat(1_142);
        let ignored = format!("{{\"x\":{},\"id\":5}}", &deep[8..deep.len() - 8]);
        let huge = "9".repeat(7_999);
        for (payload, is_value, order) in [
            ("", false, None),
            ("order 1", false, None),
            ("{\"id\": 1", false, None),
            ("{\"id\": 1}}", false, None),
            ("'{}'", false, None),
            ("\u{feff}{\"id\": 1}", false, None),
            (&*deep, false, None),
            (&*deep_objects, false, None),
            (&*huge, false, None),
            ("{\"id\": 1e999}", false, None),
            ("null", true, None),
            ("[1, 2]", true, None),
            ("{}", true, None),
            ("{\"id\": \"1\"}", true, None),
            ("{\"id\": -1}", true, None),
            ("{\"id\": 4294967296}", true, None),
            ("{\"id\": 1, \"id\": 2}", true, None),
            ("{\"id\": 3}", true, Some(3)),
            (" {\"more\": [\"\\u0000\"], \"id\": 4} ", true, Some(4)),
            // What is not decoded may be nested.
            (&*ignored, false, Some(5)),
        ] {
            notifier.notify("orders", payload).await.unwrap();
            match event(&mut orders).await {
                JsonEvent::Value(found, notification) => {
                    assert_eq!((Some(found.id), notification.payload()), (order, payload));
                }
                JsonEvent::Invalid(error) => {
                    assert_eq!((order, error.notification().payload()), (None, payload));
                }
                loss => panic!("{loss}"),
            }
            let found = event(&mut values).await;
            assert_eq!(found.value().is_some(), is_value, "{payload:.40}");
            assert_eq!(found.notification().unwrap().payload(), payload);
        }
        hub.close().await;
    });
}

/// S9: no loss is hidden by the decoding: neither a gap, nor a lag, nor the end.
#[test]
fn s9_losses_and_the_end_are_at_their_places_among_the_values() {
    let server = Server::start();
    run(async {
        let delay = Duration::from_millis(10);
        let builder = Listener::builder(server.url()).channels(["orders"]).backoff(delay, delay);
        let builder = builder.queue_capacity(2).overflow(Overflow::DropNewest);
        let mut orders = builder.connect().await.unwrap().json::<Order>();
        let hub = Hub::builder(server.url()).backoff(delay, delay).connect().await.unwrap();
        let subscribe = hub.subscribe("orders").queue_capacity(2);
        let mut subscription = subscribe.await.unwrap().json::<Order>();
        let notifier = server.notifier().await;
        let mut admin = server.connection().await;

        for payload in ["{\"id\": 1}", "x", "{\"id\": 2}", "{\"id\": 3}"] {
            notifier.notify("orders", payload).await.unwrap();
        }
        until_received(orders.get_ref(), 4).await;
        until("the hub has received them", || hub.stats().connection.received == 4).await;
        for process_id in [orders.get_ref().process_id(), hub.process_id()] {
            let kill = format!("SELECT pg_terminate_backend({})", process_id.unwrap());
            admin.simple_query(&kill).await.unwrap();
            until_gone(&mut admin, process_id).await;
        }
        until("both have reconnected", || {
            orders.get_ref().stats().gaps == 1 && hub.stats().connection.gaps == 1
        })
        .await;
        let expected = ["Order { id: 1 }", "invalid: x", "lagged 2", "loss of 1 sessions"];
        for expected in expected {
            assert_eq!(short(&mut orders).await, expected);
            assert_eq!(short(&mut subscription).await, expected);
        }
        // Only now there is room in the queues.
        notifier.notify("orders", "{\"id\": 4}").await.unwrap();
        assert_eq!(short(&mut orders).await, "Order { id: 4 }");
        assert_eq!(short(&mut subscription).await, "Order { id: 4 }");

        // What was received before the end is returned first.
        notifier.notify("orders", "{\"id\": 5}").await.unwrap();
        until_received(orders.get_ref(), 6).await;
        until("the hub has received it", || hub.stats().connection.received == 6).await;
        orders.get_ref().handle().close().await;
        assert_eq!(short(&mut orders).await, "Order { id: 5 }");
        assert_eq!(orders.recv().await.unwrap_err().kind(), ErrorKind::Closed);
        hub.close().await;
        let last = subscription.try_recv().unwrap().unwrap();
        assert_eq!(last.into_value(), Some(Order { id: 5 }));
        assert_eq!(subscription.try_recv().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(subscription.recv().await.unwrap_err().kind(), ErrorKind::Closed);
    });
}

/// S9: without reconnecting, the error that ends the listener is returned once, and then the end.
#[test]
fn s9_the_error_that_ends_the_listener_is_returned_once() {
    let server = Server::start();
    run(async {
        let mut orders = server.listener_of_one_session(&["orders"]).await.json::<Order>();
        let mut admin = server.connection().await;
        let process_id = orders.get_ref().process_id().unwrap();
        admin.notify("orders", "{\"id\": 1}").await.unwrap();
        until_received(orders.get_ref(), 1).await;
        admin.simple_query(&format!("SELECT pg_terminate_backend({process_id})")).await.unwrap();
        assert_eq!(short(&mut orders).await, "Order { id: 1 }");
        assert_eq!(orders.recv().await.unwrap_err().sqlstate(), Some("57P01"));
        assert_eq!(orders.recv().await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(orders.try_recv().unwrap_err().kind(), ErrorKind::Closed);
    });
}

/// S9: a scope, a reference to a listener and a stream of the user's own are decoded in the same way.
#[test]
fn s9_every_stream_of_events_can_be_decoded() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&[]).await;
        let notifier = server.notifier().await;
        let mut scope = listener.scope(["orders"]).await.unwrap().json::<Order>();
        notifier.notify_json("orders", &json!({"id": 1})).await.unwrap();
        assert_eq!(short(&mut scope).await, "Order { id: 1 }");
        scope.into_inner().leave().await.unwrap();

        listener.listen("orders").await.unwrap();
        let mut by_reference = JsonStream::<_, Order>::new(&mut listener);
        notifier.notify_json("orders", &json!({"id": 2})).await.unwrap();
        assert_eq!(short(&mut by_reference).await, "Order { id: 2 }");
        assert!(by_reference.try_recv().unwrap().is_none());
        notifier.notify_many([("orders", "{\"id\": 1}"), ("orders", "x")]).await.unwrap();
        until_received(by_reference.get_ref(), 4).await;
        assert_eq!(by_reference.try_recv().unwrap().unwrap().into_value(), Some(Order { id: 1 }));
        let invalid = by_reference.try_recv().unwrap().unwrap();
        assert_eq!(invalid.into_notification().unwrap().payload(), "x");
        let boxed: Pin<Box<Events>> = Box::pin(listener);
        let mut boxed = JsonStream::<_, Order>::new(boxed);
        notifier.notify_json("orders", &json!({"id": 3})).await.unwrap();
        assert_eq!(short(&mut boxed).await, "Order { id: 3 }");
    });
}

/// S9: values of a batch borrow from the receive buffer.
#[test]
fn s9_the_values_of_a_batch_borrow_from_it() {
    #[derive(Deserialize)]
    struct Borrowed<'a> {
        action: &'a str,
    }
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["user_updates"]).await;
        let notifier = server.notifier().await;
        let sent = ["login", "logout"].map(|action| ("user_updates", json!({"action": action})));
        let sent = sent.map(|(channel, value)| (channel, value.to_string()));
        notifier.notify_many(sent).await.unwrap();
        let batch = listener.recv_batch().await.unwrap();
        let values: Vec<Borrowed<'_>> = batch.iter().map(|n| n.json().unwrap()).collect();
        let actions: Vec<_> = values.iter().map(|value| value.action).collect();
        assert_eq!(actions, ["login", "logout"]);
    });
}

/// S9: what cannot be sent is refused before anything is sent.
#[test]
fn s9_a_value_that_cannot_be_sent_is_refused() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["a"]).await;
        let notifier = server.notifier().await;
        let error = notifier.notify_json("a", &HashMap::from([((1, 2), 3)])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse);
        assert!(format!("{error:#}").contains("key must be a string"), "{error:#}");
        // With the quotes it has 8,000 bytes.
        let long = "x".repeat(7_998);
        let error = notifier.notify_json("a", &long).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse);
        assert!(error.to_string().contains("8000 bytes"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("table")), "{error}");
        let error = notifier.notify_topic_json("a", "t", &long[2..]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse);
        assert_eq!(
            notifier.notify_topic_json("a", "t:", &1).await.unwrap_err().kind(),
            error.kind()
        );
        assert_eq!(notifier.notify_json("", &1).await.unwrap_err().kind(), error.kind());

        notifier.notify_json("a", &long[1..]).await.unwrap();
        let notification = listener.recv().await.unwrap().into_notification().unwrap();
        assert_eq!(notification.payload().len(), 7_999);
        assert_eq!(notification.json::<&str>().unwrap(), &long[1..]);
    });
}

/// S9: a field is the topic, of what a notifier, a trigger or psql sends. The payload stays whole, and one without the field reaches only the
/// subscriptions to the channel.
#[test]
fn s9_a_field_of_the_payload_is_the_topic() {
    async fn next(subscription: &mut JsonStream<Subscription, Value>) -> Value {
        event(subscription).await.value().unwrap().clone()
    }
    let server = Server::start();
    run(async {
        let hub = Hub::builder(server.url()).channel_topic_of("orders", TopicOf::json_field("id"));
        let hub = hub.connect().await.unwrap();
        let notifier = server.notifier().await;
        let mut sql = server.connection().await;
        let mut whole = hub.subscribe("orders").await.unwrap();
        let mut one = hub.subscribe_topic("orders", "9007199254740993").await.unwrap().json();
        let mut two = hub.subscribe_topic("orders", "a\"b").await.unwrap().json();
        let mut yes = hub.subscribe_topic("orders", "true").await.unwrap().json();

        // As `f64` the first two are equal.
        for payload in [
            json!({"id": 9_007_199_254_740_992_u64, "n": 1}),
            json!({"n": 2, "id": 9_007_199_254_740_993_u64}),
            json!({"id": "a\"b", "n": 3}),
            json!({"id": true, "n": 4}),
            json!({"id": null, "n": 5}),
            json!({"inner": {"id": true}, "n": 6}),
            json!([{"id": true}]),
        ] {
            notifier.notify_json("orders", &payload).await.unwrap();
        }
        for payload in ["no JSON", "", "{\"id\": true", "true"] {
            notifier.notify("orders", payload).await.unwrap();
        }
        // A topic and a separator before the object are no JSON.
        notifier.notify_topic_json("orders", "true", &json!({"id": true})).await.unwrap();
        let build = "SELECT pg_notify('orders', json_build_object('id', $1::text::numeric, 'n', 7)::text), \
                     pg_notify('orders', jsonb_build_object('n', 8, 'id', 'a\"b')::text), \
                     pg_notify('orders', row_to_json(row)::text) FROM (SELECT true AS id, 9 AS n) row";
        sql.query(build, &[Some("9007199254740993")]).await.unwrap();

        assert_eq!(
            (next(&mut one).await["n"].clone(), next(&mut one).await["n"].clone()),
            (json!(2), json!(7))
        );
        assert_eq!(
            (next(&mut two).await["n"].clone(), next(&mut two).await["n"].clone()),
            (json!(3), json!(8))
        );
        assert_eq!(
            (next(&mut yes).await["n"].clone(), next(&mut yes).await["n"].clone()),
            (json!(4), json!(9))
        );
        let mut payloads = Vec::new();
        for _ in 0..15 {
            let event = whole.recv().await.unwrap();
            payloads.push(event.into_notification().unwrap().payload().to_owned());
        }
        assert_eq!(payloads[7..12], ["no JSON", "", "{\"id\": true", "true", "true:{\"id\":true}"]);
        // The topics have got nothing else.
        for topic in [&one, &two, &yes] {
            assert_eq!(topic.get_ref().stats().received, 2);
        }
        let unnamed = Hub::builder(server.url()).topic_of(TopicOf::json_field("")).connect().await;
        assert_eq!(unnamed.unwrap_err().kind(), ErrorKind::Config);
        hub.close().await;
    });
}
