//! Handlers of values that are sent as JSON.

use std::time::Duration;

use super::{Log, Running};
use crate::dispatcher::{Dispatcher, Failure, FailureCause, Retry};
use crate::notification::JsonError;

/// A retry would wait for an hour.
#[tokio::test]
async fn a_payload_that_cannot_be_decoded_is_one_failure_without_a_retry_and_the_next_one_is_handled()
 {
    let log = Log::default();
    let (handled, failed) = (log.clone(), log.clone());
    let running = Running::start(
        Dispatcher::new()
            .retry(Retry::new(5).backoff(Duration::from_secs(3_600), Duration::from_secs(3_600)))
            .on_json("a", move |numbers: Vec<u8>| {
                let log = handled.clone();
                async move { log.add(format!("handled {numbers:?}")) }
            })
            .on_failure(move |failure: Failure| {
                let FailureCause::Error(error) = failure.cause() else { panic!("{failure}") };
                let payload = error.downcast_ref::<JsonError>().unwrap().notification().payload();
                assert_eq!(failure.notifications()[0].payload(), payload);
                failed.add(format!("{payload}: {} attempt", failure.attempts()));
                std::future::ready(())
            }),
    );
    for payload in ["[1, 2]", "[256]", "", "[3]"] {
        running.put(payload).await;
    }
    let shared = running.end().await;
    let expected = ["handled [1, 2]", "[256]: 1 attempt", ": 1 attempt", "handled [3]"];
    assert_eq!(log.lines(), expected);
    let stats = shared.counters.stats(1);
    assert_eq!((stats.handled, stats.failures, stats.retries, stats.panics), (4, 2, 0, 0));
}

#[tokio::test]
async fn an_error_of_a_handler_of_values_is_tried_again_and_a_panic_while_decoding_is_contained() {
    /// Panics for a payload with this text.
    struct Checked(String);
    impl<'de> serde::Deserialize<'de> for Checked {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            let text = String::deserialize(from)?;
            assert_ne!(text, "panic", "planted");
            Ok(Self(text))
        }
    }
    let log = Log::default();
    let (tried, failed) = (log.clone(), log.clone());
    let running = Running::start(
        Dispatcher::new()
            .retry(Retry::new(3).backoff(Duration::ZERO, Duration::ZERO))
            .on_json("a", move |Checked(text)| {
                let log = tried.clone();
                async move {
                    log.add(text);
                    Err::<(), _>("no")
                }
            })
            .on_failure(move |failure: Failure| {
                failed.add(failure.to_string());
                std::future::ready(())
            }),
    );
    for payload in ["\"x\"", "\"panic\""] {
        running.put(payload).await;
    }
    let shared = running.end().await;
    let lines = log.lines();
    assert_eq!(lines[..3], ["x", "x", "x"]);
    assert_eq!(lines[3], "a: 1 notification was not handled in 3 attempts: no");
    assert!(
        lines[4]
            .starts_with("a: 1 notification was not handled in 1 attempt: the handler panicked")
    );
    assert!(lines[4].contains("planted") && lines.len() == 5, "{lines:?}");
    assert_eq!((shared.counters.stats(1).retries, shared.counters.stats(1).panics), (2, 1));
}
