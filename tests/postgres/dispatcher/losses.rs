//! Losses at their place.

use std::sync::Arc;
use std::time::Duration;

use pgbell::{Dispatcher, Failure, Loss, Notification, Retry};
use tokio::sync::Notify;

use super::{BOTH, Log, Over, start};
use crate::support::{Server, run, until};

#[test]
fn a_loss_is_handled_after_everything_before_it_and_before_anything_after_it() {
    let server = Server::start();
    run(async {
        let notifier = server.notifier().await;
        for over in BOTH {
            let (log, gate) = (Log::default(), Arc::new(Notify::new()));
            let (a, b, lines, opened) = (log.clone(), log.clone(), log.clone(), gate.clone());
            let dispatcher = Dispatcher::new()
                .on("a", move |n: Notification| {
                    let (log, gate) = (a.clone(), opened.clone());
                    async move {
                        if n.payload() == "1" {
                            gate.notified().await;
                        }
                        log.add(format!("a {}", n.payload()));
                    }
                })
                .on("b", move |n: Notification| {
                    let log = b.clone();
                    async move { log.add(format!("b {}", n.payload())) }
                })
                .on_loss(move |loss| {
                    let log = lines.clone();
                    async move {
                        assert!(matches!(loss.loss(), Loss::Gap(_)));
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        log.add(format!("loss of {}", loss.channel().unwrap_or("all")));
                    }
                });
            let started = start(&server, over, dispatcher).await;
            for (channel, payload) in [("b", "1"), ("a", "1"), ("a", "2")] {
                notifier.notify(channel, payload).await.unwrap();
            }
            started
                .until("the first of a runs", |stats| stats.running == 1 && stats.handled == 1)
                .await;
            until("all have arrived", || started.connection().received == 3).await;
            server.cluster.terminate_backend(started.process_id.unwrap()).unwrap();
            until("it is back", || started.connection().gaps == 1).await;
            for (channel, payload) in [("b", "2"), ("a", "3")] {
                notifier.notify(channel, payload).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            match over {
                Over::Listener => assert_eq!(log.lines(), ["b 1"]),
                // The lane of b has no part in what a does.
                Over::Hub => {
                    until("b is done", || log.lines().len() == 3).await;
                    assert_eq!(log.lines(), ["b 1", "loss of b", "b 2"]);
                }
            }
            gate.notify_one();
            started.handled(5).await;
            let lines = log.lines();
            match over {
                Over::Listener => {
                    assert_eq!(lines[..4], ["b 1", "a 1", "a 2", "loss of all"]);
                    let mut rest = lines[4..].to_vec();
                    rest.sort();
                    assert_eq!(rest, ["a 3", "b 2"]);
                    assert_eq!(started.running.stats().losses, 1);
                }
                Over::Hub => {
                    assert_eq!(lines[3..], ["a 1", "a 2", "loss of a", "a 3"]);
                    assert_eq!(started.running.stats().losses, 2);
                }
            }
        }
    });
}

#[test]
fn a_loss_handler_that_fails_is_tried_again_and_then_reported_before_the_next_notification() {
    let server = Server::start();
    run(async {
        let notifier = server.notifier().await;
        for over in BOTH {
            let log = Log::default();
            let (losses, failures) = (log.clone(), log.clone());
            let delay = Duration::from_millis(1);
            let dispatcher = Dispatcher::new()
                .retry(Retry::new(2).backoff(delay, delay))
                .on("a", log.payloads())
                .on_loss(move |_| {
                    losses.add("loss");
                    async { Err("the table is locked") }
                })
                .on_failure(move |failure: Failure| {
                    let log = failures.clone();
                    async move {
                        assert!(failure.loss().is_some() && failure.notifications().is_empty());
                        assert_eq!(failure.handler(), None);
                        log.add(failure.to_string());
                    }
                });
            let started = start(&server, over, dispatcher).await;
            notifier.notify("a", "1").await.unwrap();
            started.handled(1).await;
            server.cluster.terminate_backend(started.process_id.unwrap()).unwrap();
            started.until("the loss failed", |stats| stats.failures == 1).await;
            notifier.notify("a", "2").await.unwrap();
            started.handled(2).await;
            let lines = log.lines();
            assert_eq!(lines[..3], ["1", "loss", "loss"], "{over:?}");
            assert!(
                lines[3].ends_with("a loss was not handled in 2 attempts: the table is locked")
            );
            assert_eq!(lines[4], "2");
        }
    });
}
