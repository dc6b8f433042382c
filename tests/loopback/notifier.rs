use pgbell::{Connection, ErrorKind, Notifier};

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
        let notifier = Notifier::connect(server.url()).await.unwrap();
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
