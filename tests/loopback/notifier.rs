use std::time::Duration;

use pgbell::{Connection, ErrorKind, Notifier, State};

use crate::support::{server, soon};

#[tokio::test]
async fn many_tasks_share_one_connection() {
    let server = server().await;
    let mut listening = Connection::connect(server.url()).await.unwrap();
    listening.listen("a").await.unwrap();
    let notifier = Notifier::connect(server.url()).await.unwrap();
    assert_eq!(server.clients(), 2);
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let notifier = notifier.clone();
            tokio::spawn(async move {
                for n in 0..50 {
                    notifier.notify("a", format!("{task} {n}")).await.unwrap();
                }
            })
        })
        .collect();
    let mut next = [0; 16];
    while next.iter().sum::<usize>() < 16 * 50 {
        for n in soon(listening.recv_batch()).await.unwrap() {
            let (task, number) = n.payload().split_once(' ').unwrap();
            let task: usize = task.parse().unwrap();
            // A task waits for each of its own notifications: they keep their order.
            assert_eq!(number, next[task].to_string());
            next[task] += 1;
        }
    }
    for task in tasks {
        soon(task).await.unwrap();
    }
}

#[tokio::test]
async fn many_are_one_transaction_in_order() {
    let server = server().await;
    let mut listening = Connection::connect(server.url()).await.unwrap();
    listening.listen_all(["a", "B \"q\" \\"]).await.unwrap();
    let notifier = Notifier::connect(server.url()).await.unwrap();
    let payloads = ["", "NULL", "{\"a\": [1, 2]}", "back\\slash", "comma, brace }", "é\n"];
    let pairs = payloads.iter().flat_map(|p| [("a", *p), ("B \"q\" \\", *p)]);
    assert_eq!(notifier.notify_many(pairs.clone()).await.unwrap(), 12);
    let mut seen = Vec::new();
    while seen.len() < 12 {
        for n in soon(listening.recv_batch()).await.unwrap() {
            seen.push((n.channel().to_owned(), n.payload().to_owned()));
        }
    }
    assert_eq!(seen, pairs.map(|(c, p)| (c.to_owned(), p.to_owned())).collect::<Vec<_>>());
    let none: [(&str, &str); 0] = [];
    assert_eq!(notifier.notify_many(none).await.unwrap(), 0);
}

#[tokio::test]
async fn one_refused_pair_refuses_all_of_them_before_anything_is_sent() {
    let server = server().await;
    let notifier = Notifier::connect(server.url()).await.unwrap();
    let long = "x".repeat(8_000);
    let error = notifier.notify_many([("a", "ok"), ("a", long.as_str())]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    assert_eq!(notifier.notify("", "x").await.unwrap_err().kind(), ErrorKind::Misuse);
    assert_eq!(server.count("a").committed, 0);
}

#[tokio::test]
async fn close_completes_the_accepted_calls_and_ends_the_session() {
    let server = server().await;
    let notifier = Notifier::connect(server.url()).await.unwrap();
    let other = notifier.clone();
    let pending: Vec<_> = (0..100)
        .map(|n| {
            let notifier = notifier.clone();
            tokio::spawn(async move { notifier.notify("a", n.to_string()).await })
        })
        .collect();
    for task in pending {
        soon(task).await.unwrap().unwrap();
    }
    soon(notifier.close()).await;
    assert_eq!(server.count("a").committed, 100);
    assert_eq!(other.notify("a", "late").await.unwrap_err().kind(), ErrorKind::Closed);
    soon(async {
        while server.clients() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The error is the server's reason, not the write that failed after it.
#[tokio::test]
async fn a_lost_connection_fails_every_call_with_the_reason_of_the_server() {
    for _ in 0..20 {
        let server = server().await;
        let builder = Notifier::builder(server.url()).reconnect(false);
        let notifier = builder.connect().await.unwrap();
        server.terminate_all();
        let error = soon(async {
            loop {
                if let Err(error) = notifier.notify("a", "x").await {
                    break error;
                }
            }
        })
        .await;
        assert!(matches!(error.kind(), ErrorKind::InDoubt | ErrorKind::Closed), "{error}");
        assert!(format!("{error:#}").contains("57P01"), "{error}");
        let error = soon(notifier.notify("a", "x")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(format!("{error:#}").contains("57P01"), "{error}");
    }
}

#[tokio::test]
async fn calls_of_many_tasks_are_committed_in_few_transactions_and_equal_ones_are_all_delivered() {
    let server = server().await;
    let mut listening = Connection::connect(server.url()).await.unwrap();
    listening.listen("a").await.unwrap();
    let notifier = Notifier::connect(server.url()).await.unwrap();
    let calls: Vec<_> = (0..100)
        .map(|n| {
            let notifier = notifier.clone();
            // Five are equal.
            tokio::spawn(async move { notifier.notify("a", (n % 96).to_string()).await })
        })
        .collect();
    for call in calls {
        soon(call).await.unwrap().unwrap();
    }
    let stats = notifier.stats();
    assert_eq!((stats.calls, stats.committed, stats.unanswered), (100, 100, 0));
    assert!(stats.groups > 0 && stats.transactions < 50, "{stats:?}");
    let mut seen = 0;
    while seen < 100 {
        seen += soon(listening.recv_batch()).await.unwrap().iter().count();
    }
}

#[tokio::test]
async fn a_notifier_connects_again_and_has_the_process_id_of_its_new_session() {
    let server = server().await;
    let builder = Notifier::builder(server.url());
    let builder = builder.backoff(Duration::from_millis(1), Duration::from_millis(10));
    let notifier = builder.connect().await.unwrap();
    assert_eq!(notifier.state(), State::Connected);
    for sessions in 2..10 {
        let before = notifier.process_id();
        let lost = {
            let notifier = notifier.clone();
            tokio::spawn(async move { notifier.wait_state(State::Reconnecting).await })
        };
        tokio::task::yield_now().await;
        if sessions % 2 == 0 {
            server.terminate_all();
        } else {
            server.kill_all();
        }
        soon(lost).await.unwrap().unwrap();
        // It waits for the next session.
        soon(notifier.notify("a", sessions.to_string())).await.unwrap();
        assert_ne!(notifier.process_id(), before);
        assert_eq!(notifier.stats().sessions, sessions);
        assert!(notifier.last_error().is_some());
    }
    assert_eq!(server.count("a").committed, 8);
    soon(notifier.clone().close()).await;
    soon(notifier.wait_state(State::Closed)).await.unwrap();
    assert_eq!(notifier.wait_state(State::Connected).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn calls_without_a_server_fail_after_the_answer_timeout_with_the_reason() {
    let mut server = server().await;
    let builder = Notifier::builder(server.url()).answer_timeout(Duration::from_millis(300));
    let builder = builder.backoff(Duration::from_millis(1), Duration::from_millis(10));
    let notifier = builder.connect().await.unwrap();
    server.halt().await;
    soon(notifier.wait_state(State::Reconnecting)).await.unwrap();
    let error = soon(notifier.notify("a", "1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:#}");
    assert!(format!("{error:#}").contains("was not sent: "), "{error:#}");
    server.resume().await.unwrap();
    soon(async { while notifier.notify("a", "2").await.is_err() {} }).await;
    assert_eq!(server.count("a").committed, 1);
    let stats = notifier.stats();
    assert_eq!((stats.committed, stats.in_doubt, stats.sessions), (1, 0, 2));
    assert!(stats.not_sent >= 1 && stats.attempts_failed >= 1, "{stats:?}");
}

#[tokio::test]
async fn a_notifier_without_a_session_can_be_closed_and_dropped() {
    for is_dropped in [false, true] {
        let mut server = server().await;
        let notifier = Notifier::connect(server.url()).await.unwrap();
        server.halt().await;
        soon(notifier.wait_state(State::Reconnecting)).await.unwrap();
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        if is_dropped {
            drop(notifier);
        } else {
            soon(notifier.close()).await;
        }
        drop(server);
        soon(async {
            while tasks() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn the_error_of_a_long_payload_says_to_store_it_in_a_table() {
    let server = server().await;
    let notifier = Notifier::connect(server.url()).await.unwrap();
    let error = notifier.notify("a", "x".repeat(8_000)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    assert!(error.hint().is_some_and(|hint| hint.contains("table")), "{error}");
}

#[tokio::test]
async fn invalid_delays_are_refused() {
    let server = server().await;
    for (min, max) in [(0, 1), (2, 1)] {
        let delays = (Duration::from_secs(min), Duration::from_secs(max));
        let builder = Notifier::builder(server.url()).backoff(delays.0, delays.1);
        assert_eq!(builder.connect().await.unwrap_err().kind(), ErrorKind::Config);
    }
}
