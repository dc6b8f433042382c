//! What handlers have captured is dropped with the lanes, and may panic then.

use std::time::Duration;

use crate::dispatcher::{Dispatcher, Failure};
use crate::hub::Hub;
use crate::listener::Listener;
use crate::notification::{Notification, TopicOf};
use crate::testing::{BackendConfig, Server};

const LONG: Duration = Duration::from_secs(60);

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("in the drop of a captured value");
    }
}

/// Returns a handler that has captured a value whose drop panics.
fn handler<T>() -> impl Fn(T) -> std::future::Ready<()> + Send + Sync + 'static {
    let value = PanicsInDrop;
    move |_| {
        let _ = &value;
        std::future::ready(())
    }
}

/// Returns a dispatcher with six functions that have captured such a value.
fn dispatcher() -> Dispatcher {
    let value = PanicsInDrop;
    Dispatcher::new()
        .on("a", handler::<Notification>())
        .on("a", handler::<Notification>())
        .on_topic("b", "1", handler::<Notification>())
        .on_loss(handler())
        .on_failure(handler::<Failure>())
        .topic_of(TopicOf::function(move |payload| {
            let _ = &value;
            Some(payload.into())
        }))
}

#[tokio::test]
async fn a_captured_value_that_panics_in_its_drop_does_not_disturb_the_end() {
    let server = Server::start(BackendConfig::new()).await.unwrap();
    for (is_hub, drains) in [(false, false), (false, true), (true, false), (true, true)] {
        let hub = Hub::connect(server.url()).await.unwrap();
        let running = if is_hub {
            dispatcher().run_hub(&hub).await.unwrap()
        } else {
            dispatcher().run(Listener::connect(server.url()).await.unwrap()).await.unwrap()
        };
        server.notify("a", "1").unwrap();
        super::until("it is handled", || running.stats().handled == 1).await;
        let stopped = if drains { running.drain(LONG).await } else { running.stop(LONG).await };
        assert!(stopped.error.is_none(), "{is_hub}, {drains}: {stopped:?}");
        assert_eq!((stopped.unhandled, stopped.cancelled, stopped.blocked), (0, 0, 0));
        let stats = running.stats();
        assert_eq!((stats.panics, stats.failures, stats.handled), (6, 0, 1), "{is_hub}, {drains}");
    }
}
