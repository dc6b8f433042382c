//! Values of the user whose drop panics: what handlers have captured, their futures, and their errors.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{Log, Running};
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

/// An error whose drop panics.
#[derive(Debug)]
struct BadError;

impl fmt::Display for BadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bad")
    }
}

impl std::error::Error for BadError {}

impl Drop for BadError {
    fn drop(&mut self) {
        panic!("in the drop of an error");
    }
}

/// How the future of a handler ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Done,
    Error,
    Panic,
}

/// A future whose drop panics.
struct BadFuture(End);

impl Future for BadFuture {
    type Output = Result<(), BadError>;

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0 {
            End::Done => Poll::Ready(Ok(())),
            End::Error => Poll::Ready(Err(BadError)),
            End::Panic => panic!("in the future"),
        }
    }
}

impl Drop for BadFuture {
    fn drop(&mut self) {
        panic!("in the drop of a future");
    }
}

/// The second panic came while the first one unwound, and ended the process.
#[tokio::test]
async fn a_future_and_its_error_or_its_panic_that_panic_in_their_drop_do_not_end_the_process() {
    for (end, message) in [
        (End::Done, "in the drop of a future"),
        (End::Error, "in the drop of a future"),
        (End::Panic, "in the future"),
    ] {
        let log = Log::default();
        let lines = log.clone();
        let dispatcher = Dispatcher::new()
            .on("a", move |_: Notification| BadFuture(end))
            .on_failure(move |failure: Failure| {
                lines.add(failure.cause().to_string());
                // What it returns and drops is of the user too.
                BadFuture(end)
            });
        let running = Running::start(dispatcher);
        running.put("1").await;
        running.put("2").await;
        let shared = running.end().await;
        let message = format!("the handler panicked: {message}");
        assert_eq!(log.lines(), [message.clone(), message], "{end:?}");
        let stats = shared.counters.stats(1);
        assert_eq!((stats.failures, stats.panics, stats.handled), (2, 4, 2), "{end:?}");
    }
}

#[tokio::test]
async fn an_error_of_the_failure_handler_that_panics_in_its_drop_does_not_end_the_lane() {
    let running = Running::start(
        Dispatcher::new()
            .on("a", |_: Notification| async { Err("no") })
            .on_failure(|_: Failure| async { Err(BadError) }),
    );
    running.put("1").await;
    running.put("2").await;
    let stats = running.end().await.counters.stats(1);
    assert_eq!((stats.failures, stats.panics, stats.handled), (2, 2, 2));
}
