//! The order of notifications, and the moment from which a channel is active.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::on_every_version;
use crate::support::{Server, next_batch, number, run, up_to_end};

on_every_version! {
    an_array_of_notifications_keeps_its_order_and_is_all_or_nothing
    listening_in_the_middle_of_a_stream_delivers_all_the_rest
}

/// N51: a statement that notifies for each element of two arrays keeps the order of the arrays, on one and on
/// several channels, and is one transaction: when one element is refused, none is delivered.
fn an_array_of_notifications_keeps_its_order_and_is_all_or_nothing(major: u32) {
    let server = Server::of(major);
    run(async {
        let mut listener = server.listener(&["a", "b"]).await;
        let mut sender = server.connection().await;
        let sql = "SELECT count(pg_notify(c, p)) FROM unnest($1::text[], $2::text[]) AS t(c, p)";
        let array = |elements: Vec<String>| format!("{{{}}}", elements.join(","));
        let numbers: Vec<String> = (0..5_000).rev().map(|i| i.to_string()).collect();
        let channels: Vec<String> =
            (0..5_000).map(|i| if i % 3 == 0 { "a" } else { "b" }.to_owned()).collect();
        let mut refused = channels.clone();
        refused[4_999] = "x".repeat(64);
        let parameters = [array(refused), array(numbers.clone())];
        let error =
            sender.query(sql, &[Some(&parameters[0]), Some(&parameters[1])]).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("22023"), "{error}");
        let parameters = [array(channels.clone()), array(numbers.clone())];
        let rows = sender.query(sql, &[Some(&parameters[0]), Some(&parameters[1])]).await.unwrap();
        assert_eq!(rows.get(0).unwrap().get(0), Some("5000"));
        sender.notify("a", "end").await.unwrap();
        let found = up_to_end(&mut listener).await;
        assert!(found.into_iter().eq(channels.into_iter().zip(numbers)));
    });
}

/// P3: a writer commits 1, 2, 3 … while LISTEN is sent at some moment. The listener receives everything from
/// some number on, in order and once, including every transaction that began after `listen` returned.
fn listening_in_the_middle_of_a_stream_delivers_all_the_rest(major: u32) {
    let server = Server::of(major);
    run(async {
        for round in 0..30_u64 {
            let begun = Arc::new(AtomicU64::new(0));
            let stop = Arc::new(AtomicBool::new(false));
            let notifier = server.notifier().await;
            let writer = tokio::spawn({
                let (begun, stop) = (begun.clone(), stop.clone());
                async move {
                    let mut rest = 50;
                    while rest > 0 {
                        if stop.load(Ordering::SeqCst) {
                            rest -= 1;
                        }
                        let i = begun.fetch_add(1, Ordering::SeqCst) + 1;
                        notifier.notify("ch", i.to_string()).await.unwrap();
                    }
                    begun.load(Ordering::SeqCst)
                }
            });
            let mut inline = server.connection().await;
            while begun.load(Ordering::SeqCst) < 7 * round {
                tokio::task::yield_now().await;
            }
            inline.listen("ch").await.unwrap();
            let after = begun.load(Ordering::SeqCst);
            stop.store(true, Ordering::SeqCst);
            let last = writer.await.unwrap();
            let mut expect = None;
            while expect != Some(last + 1) {
                for notification in next_batch(&mut inline).await {
                    let found = number(notification.payload_bytes());
                    assert!(found <= last);
                    match expect {
                        None => assert!(found <= after + 1, "{found} is the first after {after}"),
                        Some(expect) => assert_eq!(found, expect),
                    }
                    expect = Some(found + 1);
                }
            }
        }
    });
}
