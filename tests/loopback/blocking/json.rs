//! Values as JSON, of threads without async.

use std::thread;
use std::time::Duration;

use pgbell::blocking::{Connection, JsonStream, Listener, Notifier};
use pgbell::{ErrorKind, JsonEvent};
use serde::{Deserialize, Serialize};

use super::{LONG, Scene};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u32,
}

/// Returns the event in short.
fn short(event: JsonEvent<Order>) -> String {
    match event {
        JsonEvent::Value(order, _) => format!("order {}", order.id),
        JsonEvent::Invalid(error) => format!("invalid {}", error.notification().payload()),
        JsonEvent::Gap(_) => "gap".to_owned(),
        loss => loss.to_string(),
    }
}

#[test]
fn each_way_to_receive_decodes_the_next_payload_and_a_wrong_one_is_an_event() {
    let scene = Scene::new();
    let builder = Listener::builder(scene.url()).channels(["orders"]);
    let listener = builder.backoff(Duration::from_millis(1), LONG).connect().unwrap();
    let handle = listener.handle();
    let mut orders = listener.json::<Order>();
    assert!(orders.try_recv().unwrap().is_none());
    assert!(orders.recv_timeout(Duration::from_millis(1)).unwrap().is_none());
    let notifier = Notifier::connect(scene.url()).unwrap();
    notifier.notify_json("orders", &Order { id: 1 }).unwrap();
    notifier.notify_topic_json("orders", "t", &Order { id: 2 }).unwrap();
    for id in 3..=6 {
        notifier.notify_json("orders", &Order { id }).unwrap();
    }
    assert_eq!(short(orders.recv().unwrap()), "order 1");
    assert_eq!(short(orders.recv_timeout(LONG).unwrap().unwrap()), "invalid t:{\"id\":2}");
    assert_eq!(short(orders.next().unwrap().unwrap()), "order 3");
    // It has no queue of its own.
    let next = orders.get_mut().recv().unwrap().into_notification().unwrap();
    assert_eq!(next.json::<Order>().unwrap(), Order { id: 4 });
    let mut by_reference = JsonStream::<_, Order>::new(orders.get_mut());
    assert_eq!(short(by_reference.recv().unwrap()), "order 5");
    let last = loop {
        if let Some(event) = orders.try_recv().unwrap() {
            break event;
        }
        thread::yield_now();
    };
    assert_eq!(short(last), "order 6");
    scene.server.kill(handle.process_id().unwrap());
    assert_eq!(short(orders.next().unwrap().unwrap()), "gap");
    handle.close();
    assert!(orders.next().is_none());
    assert_eq!(orders.recv().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(orders.try_recv().unwrap_err().kind(), ErrorKind::Closed);
    drop(orders.into_inner());
    notifier.close();
    scene.until_no_session();
}

#[test]
fn the_events_of_a_scope_are_decoded_and_the_scope_can_be_left() {
    let scene = Scene::new();
    let mut listener = scene.listener(&[]);
    let mut sender = Connection::connect(scene.url()).unwrap();
    let mut orders = listener.scope(["orders"]).unwrap().json::<Order>();
    sender.notify("orders", "{\"id\": 7}").unwrap();
    assert_eq!(short(orders.recv().unwrap()), "order 7");
    orders.into_inner().leave().unwrap();
    assert!(listener.handle().channels().unwrap().is_empty());
}

#[test]
fn a_value_that_is_no_json_is_misuse_and_is_not_sent() {
    let scene = Scene::new();
    let notifier = Notifier::connect(scene.url()).unwrap();
    let value = std::collections::HashMap::from([((1, 2), 3)]);
    assert_eq!(notifier.notify_json("a", &value).unwrap_err().kind(), ErrorKind::Misuse);
    assert_eq!(notifier.notify_topic_json("a", "t", &value).unwrap_err().kind(), ErrorKind::Misuse);
    assert_eq!(scene.server.count("a").committed, 0);
}
