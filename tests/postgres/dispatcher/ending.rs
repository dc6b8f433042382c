//! Stop, drain, drop, and the end of the listener or the hub.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pgbell::{
    Dispatcher, DispatcherHandle, Error, ErrorKind, Hub, Listener, Notification, RunningDispatcher,
};
use pgbell_testkit::Signal;
use tokio::sync::Notify;

use super::{BOTH, Log, Over, start};
use crate::support::{Server, TEST_TIMEOUT, run, send_numbers, until, until_gone, until_sql};

#[test]
fn a_drain_handles_everything_that_was_committed_before() {
    let server = Server::start();
    run(async {
        let mut connection = server.connection().await;
        for over in BOTH {
            let log = Log::default();
            let lines = log.clone();
            let dispatcher = Dispatcher::new()
                .on("a", move |n: Notification| {
                    let log = lines.clone();
                    async move {
                        tokio::time::sleep(Duration::from_micros(100)).await;
                        log.add(n.payload());
                    }
                })
                .on_batch("b", 7, |_: Vec<Notification>| async {});
            let started = start(&server, over, dispatcher).await;
            send_numbers(&mut connection, "a", 1, 500).await;
            send_numbers(&mut connection, "b", 1, 500).await;
            let stopped = started.running.drain(TEST_TIMEOUT).await;
            assert!(stopped.error.is_none(), "{over:?}: {stopped:?}");
            assert_eq!((stopped.unhandled, stopped.cancelled, stopped.blocked), (0, 0, 0));
            assert_eq!(started.running.stats().handled, 1_000, "{over:?}");
            assert_eq!(log.lines(), (1..=500).map(|n| n.to_string()).collect::<Vec<_>>());
            started.running.wait().await.unwrap();
            match &started.hub {
                None => until_gone(&mut connection, started.process_id).await,
                // The hub has no subscription any more, and works.
                Some(hub) => {
                    until("no channel is left", || hub.stats().channels == 0).await;
                    hub.subscribe("a").await.unwrap();
                }
            }
        }
    });
}

#[test]
fn a_drain_ends_although_more_is_sent_than_is_handled() {
    let server = Server::start();
    run(async {
        let notifier = server.notifier().await;
        for over in BOTH {
            let dispatcher = Dispatcher::new().on("a", |_: Notification| async {
                tokio::time::sleep(Duration::from_millis(5)).await;
            });
            let started = start(&server, over, dispatcher).await;
            let sender = {
                let notifier = notifier.clone();
                tokio::spawn(async move {
                    for number in 0_u64.. {
                        notifier.notify("a", number.to_string()).await.unwrap();
                    }
                })
            };
            started.handled(3).await;
            let stopped = started.running.drain(TEST_TIMEOUT).await;
            assert_eq!((stopped.unhandled, stopped.cancelled), (0, 0), "{over:?}");
            sender.abort();
        }
    });
}

#[test]
fn a_drain_that_takes_too_long_cancels_and_reports_what_is_left() {
    let server = Server::start();
    run(async {
        let mut connection = server.connection().await;
        for over in BOTH {
            let dispatcher =
                Dispatcher::new().on("a", |_: Notification| std::future::pending::<()>());
            let started = start(&server, over, dispatcher).await;
            send_numbers(&mut connection, "a", 1, 5).await;
            started.until("it runs", |stats| stats.running == 1).await;
            let start = Instant::now();
            let stopped = started.running.drain(Duration::from_millis(200)).await;
            assert!(start.elapsed() < TEST_TIMEOUT / 4, "{over:?}");
            assert_eq!((stopped.unhandled, stopped.cancelled), (5, 1), "{over:?}");
            // The server has stopped listening in time.
            assert!(stopped.error.is_none(), "{over:?}: {stopped:?}");
        }
    });
}

#[test]
fn a_drain_that_the_server_does_not_answer_is_bounded_and_reports_that() {
    let server = Server::start();
    run(async {
        let log = Log::default();
        let listener = server.listener(&[]).await;
        let handle = listener.handle();
        let running = Dispatcher::new().on("a", log.payloads()).run(listener).await.unwrap();
        // UNLISTEN waits behind the query.
        let query = tokio::spawn(async move { handle.simple_query("SELECT pg_sleep(60)").await });
        let mut connection = server.connection().await;
        let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')";
        until_sql(&mut connection, sql).await;
        let start = Instant::now();
        let stopped = running.drain(Duration::from_millis(200)).await;
        assert!(start.elapsed() < TEST_TIMEOUT / 4);
        let error = stopped.error.expect("the drain was not complete");
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert_eq!(running.wait().await.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(query.await.unwrap().is_err());
    });
}

/// The drain of a hub waits for an answer of the server, and its lanes wait for that.
#[test]
fn a_drain_over_a_hub_whose_server_is_frozen_ends_with_its_timeout_or_with_a_stop() {
    let server = Server::start();
    run(async {
        let log = Log::default();
        for is_stopped in [false, true] {
            let hub = Hub::connect(server.url()).await.unwrap();
            let running = Dispatcher::new().on("a", log.payloads()).run_hub(&hub).await.unwrap();
            let process_id = hub.handle().process_id().unwrap();
            server.cluster.signal_backend(process_id, Signal::Stop).unwrap();
            let start = Instant::now();
            let stopped = if is_stopped {
                running.handle().request_drain(TEST_TIMEOUT);
                tokio::time::sleep(Duration::from_millis(50)).await;
                running.stop(TEST_TIMEOUT).await
            } else {
                running.drain(Duration::from_millis(200)).await
            };
            assert!(start.elapsed() < TEST_TIMEOUT / 4);
            let kind = stopped.error.as_ref().map(Error::kind);
            assert_eq!(kind, (!is_stopped).then_some(ErrorKind::Timeout), "{stopped:?}");
            server.cluster.signal_backend(process_id, Signal::Cont).unwrap();
            hub.close().await;
        }
    });
}

/// R9.
#[test]
fn a_stop_is_bounded_although_a_handler_never_ends_and_reports_what_was_not_handled() {
    let server = Server::start();
    run(async {
        let mut connection = server.connection().await;
        for over in BOTH {
            let log = Log::default();
            let lines = log.clone();
            let dispatcher = Dispatcher::new()
                .on("never", |_: Notification| std::future::pending::<()>())
                .on("short", move |_: Notification| {
                    let log = lines.clone();
                    async move {
                        log.add("begun");
                        tokio::time::sleep(Duration::from_millis(200)).await;
                        log.add("ended");
                    }
                });
            let started = start(&server, over, dispatcher).await;
            send_numbers(&mut connection, "never", 1, 5).await;
            send_numbers(&mut connection, "short", 1, 5).await;
            started.until("both run", |stats| stats.running == 2).await;
            match &started.hub {
                Some(hub) => until("all is here", || hub.stats().connection.received == 10).await,
                None => started.until("all is here", |stats| stats.received == 10).await,
            }
            let start = Instant::now();
            let stopped = started.running.stop(Duration::from_secs(1)).await;
            let took = start.elapsed();
            assert!(took >= Duration::from_secs(1) && took < TEST_TIMEOUT / 4, "{took:?}");
            // The short one has ended, and did not run again.
            assert_eq!(log.lines(), ["begun", "ended"], "{over:?}");
            assert_eq!((stopped.unhandled, stopped.cancelled), (9, 1), "{over:?}");
            // A second stop returns at once, with the same report.
            let again = started.running.stop(TEST_TIMEOUT).await;
            assert_eq!((again.unhandled, again.cancelled), (9, 1), "{over:?}");
            if over == Over::Listener {
                until_gone(&mut connection, started.process_id).await;
            }
        }
    });
}

#[test]
fn a_stop_reports_what_has_no_room_in_a_lane_too() {
    let server = Server::start();
    run(async {
        let mut connection = server.connection().await;
        let dispatcher = Dispatcher::new()
            .lane_capacity(1)
            .on("a", |_: Notification| std::future::pending::<()>());
        let started = start(&server, Over::Listener, dispatcher).await;
        send_numbers(&mut connection, "a", 1, 20).await;
        // One runs, one waits, and one waits for room.
        started.until("the lane is full", |stats| stats.received == 3).await;
        let stopped = started.running.stop(Duration::ZERO).await;
        assert_eq!((stopped.unhandled, stopped.cancelled), (20, 1));
    });
}

/// R9.
#[test]
fn a_stop_is_bounded_although_a_handler_blocks_its_thread() {
    let server = Server::start();
    run(async {
        let notifier = server.notifier().await;
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let dispatcher = Dispatcher::new().on("a", move |_: Notification| {
            let gate = gate.clone();
            async move {
                let _ = gate.lock().unwrap().recv();
            }
        });
        let started = start(&server, Over::Hub, dispatcher).await;
        notifier.notify("a", "1").await.unwrap();
        started.until("it runs", |stats| stats.running == 1).await;
        let stopped = started.running.stop(Duration::from_millis(10)).await;
        assert_eq!((stopped.unhandled, stopped.blocked), (1, 1));
        drop(release);
    });
}

#[test]
fn the_drop_of_a_dispatcher_cancels_its_handlers_and_ends_its_session() {
    struct Dropped(Arc<Notify>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let server = Server::start();
    run(async {
        let mut connection = server.connection().await;
        for over in BOTH {
            let dropped = Arc::new(Notify::new());
            let held = dropped.clone();
            let dispatcher = Dispatcher::new().on("a", move |_: Notification| {
                let held = Dropped(held.clone());
                async move {
                    let _held = held;
                    std::future::pending::<()>().await;
                }
            });
            let started = start(&server, over, dispatcher).await;
            let handle = started.running.handle();
            send_numbers(&mut connection, "a", 1, 2).await;
            started.until("it runs", |stats| stats.running == 1).await;
            drop(started.running);
            dropped.notified().await;
            let stopped = handle.stopped().await;
            assert_eq!((stopped.cancelled, stopped.unhandled), (1, 2), "{over:?}");
            match started.hub {
                None => until_gone(&mut connection, started.process_id).await,
                Some(hub) => until("no channel is left", || hub.stats().channels == 0).await,
            }
        }
    });
}

/// What a handler does to its own dispatcher.
#[derive(Debug, Clone, Copy)]
enum Inside {
    RequestStop,
    RequestDrain,
    Drop,
    AwaitStop,
    AwaitDrain,
    AwaitEnd,
}

#[test]
fn a_handler_can_stop_drain_or_drop_its_own_dispatcher() {
    use Inside::{AwaitDrain, AwaitEnd, AwaitStop, Drop, RequestDrain, RequestStop};
    let server = Server::start();
    run(async {
        let notifier = server.notifier().await;
        for over in BOTH {
            for inside in [RequestStop, RequestDrain, Drop, AwaitStop, AwaitDrain, AwaitEnd] {
                let own = Arc::new(Mutex::new(None::<RunningDispatcher>));
                let log = Log::default();
                let (lines, taken) = (log.clone(), own.clone());
                let dispatcher = Dispatcher::new().on("a", move |n: Notification| {
                    let (log, own) = (lines.clone(), taken.clone());
                    async move {
                        log.add(n.payload());
                        let running = own.lock().unwrap().take();
                        let Some(running) = running else { return };
                        let short = Duration::from_millis(100);
                        match inside {
                            RequestStop => running.handle().request_stop(TEST_TIMEOUT),
                            RequestDrain => running.handle().request_drain(TEST_TIMEOUT),
                            Drop => {}
                            AwaitStop => drop(running.stop(short).await),
                            AwaitDrain => drop(running.drain(short).await),
                            AwaitEnd => {
                                running.handle().request_stop(short);
                                drop(running.wait().await);
                            }
                        }
                        if matches!(inside, RequestStop | RequestDrain) {
                            // The handler goes on, and its dispatcher lives until the end.
                            own.lock().unwrap().replace(running);
                            tokio::task::yield_now().await;
                        }
                        log.add("returned");
                    }
                });
                let started = start(&server, over, dispatcher).await;
                let handle: DispatcherHandle = started.running.handle();
                own.lock().unwrap().replace(started.running);
                for payload in ["1", "2", "3"] {
                    notifier.notify("a", payload).await.unwrap();
                }
                let stopped = tokio::time::timeout(TEST_TIMEOUT, handle.stopped()).await;
                let stopped = stopped.unwrap_or_else(|_| panic!("{over:?}, {inside:?}"));
                assert!(stopped.error.is_none(), "{over:?}, {inside:?}: {stopped:?}");
                let lines = log.lines();
                match inside {
                    RequestStop => assert_eq!(lines, ["1", "returned"], "{over:?}"),
                    Drop => assert_eq!(lines, ["1", "returned"], "{over:?}"),
                    // The others were not committed before the drain in any case.
                    RequestDrain => assert_eq!(lines[..2], ["1", "returned"], "{over:?}"),
                    AwaitStop | AwaitDrain | AwaitEnd => assert_eq!(lines, ["1"], "{over:?}"),
                }
            }
        }
    });
}

#[test]
fn wait_returns_the_error_that_the_listener_has_ended_with_and_none_after_a_close() {
    let server = Server::start();
    run(async {
        let log = Log::default();
        let listener = server.listener_of_one_session(&[]).await;
        let process_id = listener.process_id().unwrap();
        let running = Dispatcher::new().on("a", log.payloads()).run(listener).await.unwrap();
        server.cluster.terminate_backend(process_id).unwrap();
        let error = running.wait().await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("57P01"), "{error}");
        assert!(running.stop(TEST_TIMEOUT).await.error.is_some());

        let listener = Listener::connect(server.url()).await.unwrap();
        let handle = listener.handle();
        let running = Dispatcher::new().on("a", log.payloads()).run(listener).await.unwrap();
        handle.close().await;
        running.wait().await.unwrap();

        let builder = Hub::builder(server.url()).reconnect(false);
        let hub = builder.connect().await.unwrap();
        let running = Dispatcher::new().on("a", log.payloads()).on("b", log.payloads());
        let running = running.run_hub(&hub).await.unwrap();
        server.cluster.terminate_backend(hub.handle().process_id().unwrap()).unwrap();
        assert_eq!(running.wait().await.unwrap_err().sqlstate(), Some("57P01"));

        let hub = Hub::connect(server.url()).await.unwrap();
        let running = Dispatcher::new().on("a", log.payloads()).run_hub(&hub).await.unwrap();
        hub.close().await;
        running.wait().await.unwrap();
    });
}

#[test]
fn what_was_received_before_the_end_of_the_listener_is_handled_before_the_end_of_the_dispatcher() {
    let server = Server::start();
    run(async {
        let mut connection = server.connection().await;
        for over in BOTH {
            let (log, gate) = (Log::default(), Arc::new(Notify::new()));
            let (lines, opened) = (log.clone(), gate.clone());
            let dispatcher = Dispatcher::new().on("a", move |n: Notification| {
                let (log, gate) = (lines.clone(), opened.clone());
                async move {
                    if n.payload() == "1" {
                        gate.notified().await;
                    }
                    log.add(n.payload());
                }
            });
            let (running, close): (_, std::pin::Pin<Box<dyn Future<Output = ()>>>) = match over {
                Over::Listener => {
                    let listener = Listener::connect(server.url()).await.unwrap();
                    let handle = listener.handle();
                    let running = dispatcher.run(listener).await.unwrap();
                    (running, Box::pin(async move { handle.close().await }))
                }
                Over::Hub => {
                    let hub = Hub::connect(server.url()).await.unwrap();
                    let running = dispatcher.run_hub(&hub).await.unwrap();
                    (running, Box::pin(async move { hub.close().await }))
                }
            };
            send_numbers(&mut connection, "a", 1, 20).await;
            until("it runs", || running.stats().running == 1).await;
            close.await;
            gate.notify_one();
            running.wait().await.unwrap();
            assert_eq!(running.stats().handled, 20, "{over:?}");
            assert_eq!(log.lines(), (1..=20).map(|n| n.to_string()).collect::<Vec<_>>());
        }
    });
}
