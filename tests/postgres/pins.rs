//! Pinned batches, while the server sends more.

use pgbell::{Listener, NotificationRef, Overflow};

use crate::support::{Server, TEST_TIMEOUT, run, value};

const COUNT: u64 = 100_000;

const BUFFER_BYTES: u64 = 256 * 1024;

/// Checks a payload: the digits of its number, after zeros, 90 to 1,089 bytes.
fn check(n: &NotificationRef<'_>) {
    let number = n.sequence() + 1;
    let length = 90 + usize::try_from(number % 1_000).unwrap();
    assert_eq!((n.channel(), n.payload()), ("ch", &*format!("{number:0>length$}")));
}

/// 10^5 notifications in one transaction, 60 MB: every 100th is retained, every 16th batch shared.
#[test]
fn pinned_batches_of_a_large_transaction_are_unchanged_at_its_end() {
    let server = Server::start();
    run(async {
        for limit in [0, 2 * BUFFER_BYTES, 32 * BUFFER_BYTES] {
            let builder = Listener::builder(server.url()).channels(["ch"]);
            let builder = builder.pin_limit_bytes(usize::try_from(limit).unwrap());
            let overflow = Overflow::Block { max_stall: TEST_TIMEOUT };
            let mut listener = builder.overflow(overflow).connect().await.unwrap();
            let mut sender = server.connection().await;
            let sending = tokio::spawn(async move {
                let sql = format!(
                    "SELECT count(pg_notify('ch', lpad(i::text, 90 + i % 1000, '0')))
                     FROM generate_series(1, {COUNT}) i"
                );
                assert_eq!(value(&mut sender, &sql).await, COUNT.to_string());
            });
            let (mut next, mut batches, mut most) = (0, 0, 0);
            let (mut retained, mut shared) = (Vec::new(), Vec::new());
            while next < COUNT {
                let batch = tokio::time::timeout(TEST_TIMEOUT, listener.recv_batch()).await;
                let batch = batch.expect("nothing arrives").unwrap();
                assert!(batch.loss().is_none(), "{:?}", batch.loss());
                for n in &batch {
                    assert_eq!(n.sequence(), next);
                    if next % 100 == 0 {
                        retained.push(n.retain());
                    }
                    next += 1;
                }
                if batches % 16 == 0 {
                    shared.push((batch.len(), batch.share()));
                }
                batches += 1;
                most = most.max(listener.stats().pinned_bytes);
            }
            sending.await.unwrap();
            assert_eq!(most, limit, "{:?}", listener.stats());
            let handle = listener.handle();
            drop(listener);
            // The buffers live longer than the listener that read into them.
            assert_eq!(retained.len(), 1_000);
            for (n, number) in retained.iter().zip((0..COUNT).step_by(100)) {
                let length = 90 + usize::try_from((number + 1) % 1_000).unwrap();
                assert_eq!(n.sequence(), number);
                assert_eq!(n.payload(), &*format!("{:0>length$}", number + 1));
                assert_eq!(n.channel(), "ch");
            }
            for (len, batch) in &shared {
                assert_eq!(batch.iter().inspect(check).count(), *len);
            }
            drop((retained, shared));
            assert_eq!(handle.stats().pinned_bytes, 0);
        }
    });
}
