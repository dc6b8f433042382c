//! The order of handlers, their number, errors and panics.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pgbell::{Dispatcher, Failure, FailureCause, Notification, Retry};
use tokio::sync::Notify;

use super::{BOTH, Log, Over, start};
use crate::support::{Server, run, send_numbers, until};

/// R4, R5: each channel has its handlers, and its order is kept while other channels run.
#[test]
fn the_order_of_each_channel_is_kept_while_its_handlers_run_at_once_with_others() {
    let server = Server::start();
    run(async {
        let notifier = server.notifier().await;
        for over in BOTH {
            let logs: Vec<_> = (0..6).map(|_| Log::default()).collect();
            let mut dispatcher = Dispatcher::new().concurrency(3);
            for (number, log) in logs.iter().enumerate() {
                let log = log.clone();
                dispatcher = dispatcher.on(format!("ch{number}"), move |n: Notification| {
                    let log = log.clone();
                    async move {
                        // Later ones are faster.
                        let id = n.payload().strip_prefix("{\"id\": ").unwrap();
                        let id: u64 = id.strip_suffix('}').unwrap().parse().unwrap();
                        tokio::time::sleep(Duration::from_micros(300 - 5 * id)).await;
                        log.add(id.to_string());
                    }
                });
            }
            let started = start(&server, over, dispatcher).await;
            for id in 0..60 {
                let channels =
                    (0..6).map(|number| (format!("ch{number}"), format!("{{\"id\": {id}}}")));
                notifier.notify_many(channels).await.unwrap();
            }
            started.handled(360).await;
            let expected: Vec<_> = (0..60).map(|id| id.to_string()).collect();
            for log in &logs {
                assert_eq!(log.lines(), expected, "{over:?}");
            }
            let stopped = started.running.stop(Duration::ZERO).await;
            assert_eq!((stopped.unhandled, stopped.cancelled), (0, 0), "{over:?}");
        }
        notifier.close().await;
    });
}

#[test]
fn no_more_handlers_run_at_once_than_the_limit_and_as_many_as_that() {
    let server = Server::start();
    run(async {
        let notifier = server.notifier().await;
        for over in BOTH {
            let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let mut dispatcher = Dispatcher::new().concurrency(3);
            for number in 0..10 {
                let (now, most) = (now.clone(), most.clone());
                dispatcher =
                    dispatcher.on_topic("a", number.to_string(), move |_: Notification| {
                        let (now, most) = (now.clone(), most.clone());
                        async move {
                            most.fetch_max(
                                now.fetch_add(1, Ordering::SeqCst) + 1,
                                Ordering::SeqCst,
                            );
                            tokio::time::sleep(Duration::from_millis(2)).await;
                            now.fetch_sub(1, Ordering::SeqCst);
                        }
                    });
            }
            let started = start(&server, over, dispatcher).await;
            let all = (0..100).map(|number| ("a", format!("{}:{number}", number % 10)));
            notifier.notify_many(all).await.unwrap();
            started.handled(100).await;
            assert_eq!(most.load(Ordering::SeqCst), 3, "{over:?}");
            assert_eq!(started.running.stats().running, 0);
        }
    });
}

/// R4: a topic has its handlers too. They get the payload without the topic, over both.
#[test]
fn a_handler_of_a_topic_gets_only_that_topic_and_the_rest_of_the_payload() {
    let server = Server::start();
    run(async {
        let notifier = server.notifier().await;
        for over in BOTH {
            let (whole, topic, batch) = (Log::default(), Log::default(), Log::default());
            let batches = batch.clone();
            let dispatcher = Dispatcher::new()
                .on("messages", whole.payloads())
                .on_topic("messages", "42", topic.payloads())
                .on_topic_batch("messages", "43", 10, move |all: Vec<Notification>| {
                    let log = batches.clone();
                    async move { all.iter().for_each(|n| log.add(n.payload())) }
                });
            let started = start(&server, over, dispatcher).await;
            for (topic, payload) in [("42", "a"), ("7", "b"), ("43", "c"), ("42", "")] {
                notifier.notify_topic("messages", topic, payload).await.unwrap();
            }
            notifier.notify("messages", "no topic").await.unwrap();
            started.handled(8).await;
            assert_eq!(whole.lines(), ["42:a", "7:b", "43:c", "42:", "no topic"], "{over:?}");
            assert_eq!(topic.lines(), ["a", ""], "{over:?}");
            assert_eq!(batch.lines(), ["c"], "{over:?}");
        }
    });
}

/// R6: one run handles at most the limit, and the next one comes at once if more wait.
#[test]
fn a_batch_handler_gets_at_most_its_limit_and_is_called_again_while_more_wait() {
    let server = Server::start();
    run(async {
        for over in BOTH {
            let (log, gate) = (Log::default(), Arc::new(Notify::new()));
            let (lines, opened) = (log.clone(), gate.clone());
            let dispatcher =
                Dispatcher::new().on_batch("stock", 100, move |batch: Vec<Notification>| {
                    let (log, gate) = (lines.clone(), opened.clone());
                    async move {
                        if batch[0].payload() == "1" {
                            gate.notified().await;
                        }
                        let (first, last) = (batch[0].payload(), batch[batch.len() - 1].payload());
                        log.add(format!("{first}-{last}: {}", batch.len()));
                    }
                });
            let started = start(&server, over, dispatcher).await;
            let mut connection = server.connection().await;
            send_numbers(&mut connection, "stock", 1, 1).await;
            started.until("the first one runs", |stats| stats.running == 1).await;
            send_numbers(&mut connection, "stock", 2, 251).await;
            match &started.hub {
                Some(hub) => {
                    until("it has arrived", || hub.stats().connection.received == 251).await;
                }
                None => started.until("it waits", |stats| stats.waiting == 251).await,
            }
            gate.notify_one();
            started.handled(251).await;
            let expected = ["1-1: 1", "2-101: 100", "102-201: 100", "202-251: 50"];
            assert_eq!(log.lines(), expected, "{over:?}");
        }
    });
}

#[test]
fn an_error_is_tried_again_until_it_succeeds_and_the_lane_waits_for_it() {
    let server = Server::start();
    run(async {
        let notifier = server.notifier().await;
        for over in BOTH {
            let (log, failures) = (Log::default(), Log::default());
            let (lines, reports) = (log.clone(), failures.clone());
            let delay = Duration::from_millis(5);
            let dispatcher = Dispatcher::new()
                .retry(Retry::new(3).backoff(delay, delay))
                .on("a", move |n: Notification| {
                    let log = lines.clone();
                    async move {
                        log.add(n.payload());
                        let runs = log.lines().iter().filter(|one| *one == n.payload()).count();
                        match (n.payload(), runs) {
                            ("twice", 1) | ("never", _) => Err(format!("attempt {runs}")),
                            _ => Ok(()),
                        }
                    }
                })
                .on_failure(move |failure: Failure| {
                    let log = reports.clone();
                    async move {
                        assert!(matches!(failure.cause(), FailureCause::Error(_)));
                        assert_eq!(failure.channel(), Some("a"));
                        assert_eq!((failure.attempts(), failure.topic()), (3, None));
                        log.add(format!(
                            "{}: {}",
                            failure.notifications()[0].payload(),
                            failure.cause()
                        ));
                    }
                });
            let started = start(&server, over, dispatcher).await;
            for payload in ["once", "twice", "never", "last"] {
                notifier.notify("a", payload).await.unwrap();
            }
            started.handled(4).await;
            let expected = ["once", "twice", "twice", "never", "never", "never", "last"];
            assert_eq!(log.lines(), expected, "{over:?}");
            assert_eq!(failures.lines(), ["never: attempt 3"], "{over:?}");
            let stats = started.running.stats();
            assert_eq!((stats.runs, stats.retries, stats.failures, stats.panics), (8, 3, 1, 0));
        }
    });
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("in its drop");
    }
}

/// R5: a panic is contained and reported, wherever the handler panics, and the order is kept.
#[test]
fn a_panic_at_the_creation_in_the_run_or_in_the_drop_of_a_handler_is_reported_and_the_lane_goes_on()
{
    let server = Server::start();
    run(async {
        let notifier = server.notifier().await;
        for over in BOTH {
            let log = Log::default();
            let (lines, reports) = (log.clone(), log.clone());
            let dispatcher = Dispatcher::new()
                .retry(Retry::new(5))
                .on("a", move |n: Notification| {
                    assert_ne!(n.payload(), "creation", "at its creation");
                    let value = (n.payload() == "drop").then(|| PanicsInDrop);
                    let log = lines.clone();
                    std::future::poll_fn(move |_| {
                        let _ = &value;
                        assert_ne!(n.payload(), "run", "in its run");
                        log.add(n.payload());
                        std::task::Poll::Ready(())
                    })
                })
                .on_failure(move |failure: Failure| {
                    let log = reports.clone();
                    async move {
                        assert_eq!(failure.attempts(), 1, "a panic is not tried again");
                        match failure.into_cause() {
                            FailureCause::Panic(message) => {
                                log.add(message.lines().next().unwrap_or_default());
                            }
                            other => panic!("{other}"),
                        }
                    }
                });
            let started = start(&server, over, dispatcher).await;
            for payload in ["1", "creation", "2", "run", "3", "drop", "4"] {
                notifier.notify("a", payload).await.unwrap();
            }
            started.handled(7).await;
            let lines = log.lines();
            let has = |number: usize, words: &str| lines[number].contains(words);
            assert_eq!(lines.len(), 8, "{over:?}: {lines:?}");
            assert!(has(0, "1") && has(1, "at its creation") && has(2, "2"), "{lines:?}");
            assert!(has(3, "in its run") && has(4, "3") && has(5, "drop"), "{lines:?}");
            assert!(has(6, "in its drop") && has(7, "4"), "{lines:?}");
            let stats = started.running.stats();
            assert_eq!((stats.panics, stats.failures, stats.retries), (3, 3, 0), "{over:?}");
        }
    });
}

#[test]
fn a_slow_handler_does_not_delay_another_channel_over_a_hub() {
    let server = Server::start();
    run(async {
        let notifier = server.notifier().await;
        let (log, losses) = (Log::default(), Log::default());
        let lines = losses.clone();
        let dispatcher = Dispatcher::new()
            .lane_capacity(2)
            .on("slow", |_: Notification| std::future::pending::<()>())
            .on("fast", log.payloads())
            .on_loss(move |loss| {
                let log = lines.clone();
                async move { log.add(loss.to_string()) }
            });
        let started = start(&server, Over::Hub, dispatcher).await;
        notifier.notify("slow", "0").await.unwrap();
        started.until("it runs", |stats| stats.running == 1).await;
        for number in 1..20 {
            notifier.notify("slow", number.to_string()).await.unwrap();
        }
        for number in 0..20 {
            notifier.notify("fast", number.to_string()).await.unwrap();
            started.handled(number + 1).await;
        }
        assert_eq!(log.lines(), (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
        // One runs, two wait, and the others were dropped: the loss is behind these.
        assert!(losses.lines().is_empty());
        let stopped = started.running.stop(Duration::from_millis(10)).await;
        assert_eq!((stopped.unhandled, stopped.cancelled, stopped.blocked), (3, 1, 0));
        started.hub.unwrap().close().await;
    });
}

/// Nothing is received while a lane is full: then the policy of the listener decides what is lost, and the loss is reported.
#[test]
fn a_full_lane_over_a_listener_delays_the_others_and_the_policy_of_the_listener_applies() {
    let server = Server::start();
    run(async {
        let notifier = server.notifier().await;
        let (log, gate) = (Log::default(), Arc::new(Notify::new()));
        let (opened, lines) = (gate.clone(), log.clone());
        let dispatcher = Dispatcher::new()
            .lane_capacity(2)
            .on("slow", move |n: Notification| {
                let gate = opened.clone();
                async move {
                    if n.payload() == "0" {
                        gate.notified().await;
                    }
                }
            })
            .on("fast", log.payloads())
            .on_loss(move |loss| {
                let log = lines.clone();
                async move { log.add(loss.to_string()) }
            });
        let builder = pgbell::Listener::builder(server.url()).queue_capacity(4);
        let listener = builder.connect().await.unwrap();
        let handle = listener.handle();
        let running = dispatcher.run(listener).await.unwrap();
        notifier.notify("slow", "0").await.unwrap();
        until("the slow one runs", || running.stats().running == 1).await;
        for number in 1..4 {
            notifier.notify("slow", number.to_string()).await.unwrap();
        }
        until("its lane is full", || running.stats().waiting == 4 && handle.stats().queued == 0)
            .await;
        for number in 0..6 {
            notifier.notify("fast", number.to_string()).await.unwrap();
        }
        until("the queue is full", || handle.stats().dropped == 2).await;
        assert!(log.lines().is_empty());
        gate.notify_one();
        until("it continues", || running.stats().handled == 8 && log.lines().len() == 5).await;
        let lagged = "2 notifications were dropped: the queue was full";
        assert_eq!(log.lines(), ["0", "1", "2", "3", lagged]);
        running.stop(Duration::ZERO).await;
    });
}
