//! A million notifications in one transaction.

use std::time::Duration;

use pgbell::{Event, Listener, Overflow};
use tokio::task::JoinHandle;

use super::on_every_version;
use crate::support::{
    Server, lagged, next_batch, number, run, send_numbers, until_received, value,
};

on_every_version! {
    a_million_of_one_transaction_arrive_through_a_connection
    a_million_of_one_transaction_arrive_through_a_blocking_listener
    a_million_through_a_small_queue_are_delivered_or_counted
}

const MILLION: u64 = 1_000_000;

async fn send(server: &Server) -> JoinHandle<()> {
    let mut sender = server.connection().await;
    tokio::spawn(async move {
        send_numbers(&mut sender, "ch", 1, MILLION).await;
    })
}

/// All of them, in order, in batches that borrow from the receive buffer.
fn a_million_of_one_transaction_arrive_through_a_connection(major: u32) {
    let server = Server::of(major);
    run(async {
        let mut connection = server.connection().await;
        assert_eq!(value(&mut connection, "SHOW server_version").await, server.cluster.version());
        connection.listen("ch").await.unwrap();
        let sent = send(&server).await;
        let mut count = 0;
        while count < MILLION {
            for notification in next_batch(&mut connection).await {
                assert_eq!(notification.sequence(), count);
                count += 1;
                assert_eq!(number(notification.payload_bytes()), count);
            }
        }
        sent.await.unwrap();
        connection.close().await;
    });
}

/// P6: with a queue that blocks none is lost.
fn a_million_of_one_transaction_arrive_through_a_blocking_listener(major: u32) {
    let server = Server::of(major);
    run(async {
        let mut listener = Listener::builder(server.url())
            .channels(["ch"])
            .overflow(Overflow::Block { max_stall: Duration::from_secs(30) })
            .connect()
            .await
            .unwrap();
        let sent = send(&server).await;
        let mut count = 0;
        while count < MILLION {
            let batch = listener.recv_batch().await.unwrap();
            assert!(batch.loss().is_none(), "{:?} after {count}", batch.loss());
            for notification in batch {
                assert_eq!(notification.sequence(), count);
                count += 1;
                assert_eq!(number(notification.payload_bytes()), count);
            }
        }
        sent.await.unwrap();
        until_received(&listener, MILLION).await;
        let stats = listener.stats();
        assert_eq!((stats.delivered, stats.lagged), (MILLION, 0));
        listener.close().await;
    });
}

/// P5: delivered and lagged notifications are a million together, and no sequence number is missing.
fn a_million_through_a_small_queue_are_delivered_or_counted(major: u32) {
    let server = Server::of(major);
    run(async {
        let mut listener = Listener::builder(server.url())
            .channels(["ch"])
            .queue_capacity(1_000)
            .overflow(Overflow::DropNewest)
            .connect()
            .await
            .unwrap();
        let sent = send(&server).await;
        let (mut delivered, mut lost) = (0, 0);
        while delivered + lost < MILLION {
            let batch = listener.recv_batch().await.unwrap();
            lost += lagged(&batch);
            for notification in batch {
                assert_eq!(notification.sequence(), delivered + lost);
                delivered += 1;
                // The sequence number is the number in the payload, whatever was lost before.
                assert_eq!(number(notification.payload_bytes()), delivered + lost);
            }
        }
        sent.await.unwrap();
        assert_eq!(delivered + lost, MILLION);
        assert!(delivered >= 1_000, "the first thousand find an empty queue");
        // The stream continues with the next sequence number.
        let mut sender = server.connection().await;
        send_numbers(&mut sender, "ch", 7, 7).await;
        let Event::Notification(after) = listener.recv().await.unwrap() else { panic!("a loss") };
        assert_eq!((after.sequence(), after.payload_bytes()), (MILLION, &b"7"[..]));
        until_received(&listener, MILLION + 1).await;
        let stats = listener.stats();
        assert_eq!((stats.delivered, stats.lagged), (delivered + 1, lost));
        listener.close().await;
    });
}
