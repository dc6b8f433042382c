use std::time::Duration;

use pgbell::{
    Connection, Event, Listener, Loss, Notification, NotificationRef, Notifier, Overflow,
};
use pgbell::{SharedBatch, Stats};

use crate::support::{server, soon};

const BUFFER_BYTES: u64 = 256 * 1024;

/// Too long to be stored inline, of many lengths, and identified by its number.
fn payload(number: u64) -> String {
    let length = 100 + usize::try_from(number * 7 % 900).unwrap();
    format!("{number:0>length$}")
}

fn check(n: &NotificationRef<'_>) {
    assert_eq!((n.channel(), n.payload()), ("a", &*payload(n.sequence())));
}

fn check_owned(n: &Notification) {
    assert_eq!((n.channel(), n.payload()), ("a", &*payload(n.sequence())));
}

async fn send(notifier: &Notifier, numbers: std::ops::Range<u64>) {
    let all = numbers.map(|number| ("a", payload(number)));
    notifier.notify_many(all).await.unwrap();
}

fn threads_may_have<T: Clone + Send + Sync + 'static>(value: T) -> T {
    value
}

/// Sends and receives until the receive buffers have their full size, as in a dense flow. Only those are pinned. Returns the number
/// of notifications.
async fn grow(listener: &mut Listener, notifier: &Notifier) -> u64 {
    let mut sent = 0;
    loop {
        send(notifier, sent..sent + 500).await;
        sent += 500;
        let mut next = sent - 500;
        while next < sent {
            let batch = soon(listener.recv_batch()).await.unwrap();
            next += batch.len() as u64;
            let kept = batch.iter().next().unwrap().retain();
            let is_pinned = listener.stats().pinned_bytes > 0;
            drop(kept);
            if is_pinned && next == sent {
                return sent;
            }
        }
    }
}

/// 10^5 notifications pass through 8 MiB of buffers: each buffer is read into many times.
#[tokio::test]
async fn kept_notifications_do_not_change_while_reading_continues() {
    const COUNT: u64 = 100_000;
    const LIMIT: u64 = 4 * BUFFER_BYTES;
    let server = server().await;
    let limit = usize::try_from(LIMIT).unwrap();
    let builder = Listener::builder(server.url()).channels(["a"]).pin_limit_bytes(limit);
    let overflow = Overflow::Block { max_stall: Duration::from_secs(100) };
    let mut listener = builder.overflow(overflow).connect().await.unwrap();
    let notifier = Notifier::connect(server.url()).await.unwrap();
    let sending = tokio::spawn(async move {
        for begin in (0..COUNT).step_by(1_000) {
            send(&notifier, begin..begin + 1_000).await;
        }
    });
    let (mut next, mut most) = (0, 0);
    let (mut retained, mut shared) = (Vec::new(), Vec::new());
    while next < COUNT {
        let batch = soon(listener.recv_batch()).await.unwrap();
        assert!(batch.loss().is_none(), "{:?}", batch.loss());
        for n in &batch {
            assert_eq!(n.sequence(), next);
            check(&n);
            if next % 100 == 0 {
                retained.push(n.retain());
            }
            next += 1;
        }
        // Some are kept to the end, some for a while.
        shared.push((next, batch.share()));
        if shared.len() % 8 == 0 {
            shared.truncate(shared.len() - 7);
        }
        most = most.max(listener.stats().pinned_bytes);
    }
    soon(sending).await.unwrap();
    assert_eq!(most, LIMIT);
    // Kept notifications stay valid after their listener and its task.
    let handle = listener.handle();
    soon(listener.close()).await;
    drop(server);
    assert_eq!(retained.len(), 1_000);
    let checking = std::thread::spawn(move || {
        for (n, number) in retained.iter().zip((0..COUNT).step_by(100)) {
            assert_eq!(n.sequence(), number);
            check_owned(n);
        }
        for (end, batch) in &shared {
            assert_eq!(batch.iter().inspect(check).last().map(|n| n.sequence() + 1), Some(*end));
        }
        (retained, shared)
    });
    let (retained, shared) = checking.join().unwrap();
    drop(shared);
    assert!(handle.stats().pinned_bytes >= BUFFER_BYTES);
    drop(retained);
    assert_eq!(handle.stats().pinned_bytes, 0);
}

/// The test keeps as many views of the buffer as possible.
#[tokio::test]
async fn a_buffer_counts_once_until_the_last_pin_is_dropped() {
    let server = server().await;
    let mut listener = Listener::builder(server.url()).channels(["a"]).connect().await.unwrap();
    let notifier = Notifier::connect(server.url()).await.unwrap();
    let next = grow(&mut listener, &notifier).await;
    send(&notifier, next..next + 50).await;
    let mut kept = Vec::new();
    while kept.len() < 50 {
        kept.extend(soon(listener.recv_batch()).await.unwrap().iter().map(|n| n.retain()));
    }
    let copies = kept.clone();
    assert_eq!(listener.stats().pinned_bytes, BUFFER_BYTES);
    drop(kept);
    assert_eq!(listener.stats().pinned_bytes, BUFFER_BYTES);
    assert_eq!(copies.iter().inspect(|n| check_owned(n)).count(), 50);
    drop(copies);
    assert_eq!(listener.stats().pinned_bytes, 0);
}

#[tokio::test]
async fn short_notifications_small_batches_and_copies_pin_nothing() {
    let server = server().await;
    let mut listener = Listener::builder(server.url()).channels(["a"]).connect().await.unwrap();
    let mut sending = Connection::connect(server.url()).await.unwrap();
    let short = "x".repeat(78);
    sending.notify("a", &short).await.unwrap();
    let batch = soon(listener.recv_batch()).await.unwrap();
    let (retained, shared) =
        (batch.iter().next().unwrap().retain(), threads_may_have(batch.share()));
    sending.notify("a", payload(1)).await.unwrap();
    let owned = soon(listener.recv_batch()).await.unwrap().iter().next().unwrap().to_owned();
    assert_eq!(listener.stats().pinned_bytes, 0);
    assert_eq!(retained.payload_bytes(), short.as_bytes());
    assert_eq!(shared.iter().next().map(|n| n.to_owned()), Some(retained));
    check_owned(&owned);
    // The flow is sparse, so the buffer does not have its full size.
    sending.notify("a", payload(2)).await.unwrap();
    let retained = soon(listener.recv_batch()).await.unwrap().iter().next().unwrap().retain();
    assert_eq!(listener.stats().pinned_bytes, 0);
    check_owned(&retained);
}

#[tokio::test]
async fn a_long_payload_pins_a_buffer_of_the_full_size() {
    let server = server().await;
    let mut listener = Listener::builder(server.url()).channels(["a"]).connect().await.unwrap();
    let notifier = Notifier::connect(server.url()).await.unwrap();
    let next = grow(&mut listener, &notifier).await;
    send(&notifier, next..next + 1).await;
    let retained = soon(listener.recv_batch()).await.unwrap().iter().next().unwrap().retain();
    assert_eq!(listener.stats().pinned_bytes, BUFFER_BYTES);
    check_owned(&retained);
}

#[tokio::test]
async fn with_a_limit_below_one_buffer_everything_is_copied() {
    let server = server().await;
    let limit = usize::try_from(BUFFER_BYTES).unwrap() - 1;
    let builder = Listener::builder(server.url()).channels(["a"]).pin_limit_bytes(limit);
    let mut listener = builder.connect().await.unwrap();
    let notifier = Notifier::connect(server.url()).await.unwrap();
    send(&notifier, 0..1_000).await;
    let mut kept = Vec::<(SharedBatch, Vec<Notification>)>::new();
    while kept.iter().map(|(batch, _)| batch.len()).sum::<usize>() < 1_000 {
        let batch = soon(listener.recv_batch()).await.unwrap();
        kept.push((batch.share(), batch.iter().map(|n| n.retain()).collect()));
    }
    let Stats { pinned_bytes, received, .. } = listener.stats();
    assert_eq!((pinned_bytes, received), (0, 1_000));
    for (batch, notifications) in &kept {
        assert!(batch.iter().inspect(check).map(|n| n.to_owned()).eq(notifications.clone()));
    }
}

#[tokio::test]
async fn a_connection_shares_and_retains_copies() {
    let server = server().await;
    let mut listening = Connection::connect(server.url()).await.unwrap();
    listening.listen("a").await.unwrap();
    let notifier = Notifier::connect(server.url()).await.unwrap();
    let (mut count, mut kept) = (0, Vec::new());
    while count < 5_000 {
        send(&notifier, count..count + 500).await;
        count += 500;
        let mut received = 0;
        while received < 500 {
            let batch = soon(listening.recv_batch()).await.unwrap();
            received += batch.len();
            kept.push((batch.share(), batch.iter().next().unwrap().retain()));
        }
    }
    drop(listening);
    let mut next = 0;
    for (batch, first) in &kept {
        assert_eq!(first.sequence(), next);
        check_owned(first);
        next += batch.iter().inspect(check).count() as u64;
    }
    assert_eq!(next, count);
}

#[tokio::test]
async fn a_shared_batch_carries_its_loss() {
    let server = server().await;
    let builder = Listener::builder(server.url()).channels(["a"]).queue_capacity(10);
    let mut listener = builder.overflow(Overflow::DropNewest).connect().await.unwrap();
    let mut sending = Connection::connect(server.url()).await.unwrap();
    for number in 0..15 {
        sending.notify("a", payload(number)).await.unwrap();
    }
    soon(async {
        while listener.stats().received < 15 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for number in 0..10 {
        match soon(listener.recv()).await.unwrap() {
            Event::Notification(n) => assert_eq!(n.sequence(), number),
            other => panic!("{other:?}"),
        }
    }
    let shared = soon(listener.recv_batch()).await.unwrap().share();
    drop(listener);
    let (again, clone) = (shared.batch().share(), shared.clone());
    for shared in [shared, again, clone] {
        assert!(shared.is_empty());
        match shared.loss() {
            Some(Loss::Lagged(lagged)) => {
                assert_eq!((lagged.first_sequence(), lagged.count()), (10, 5));
            }
            other => panic!("{other:?}"),
        }
    }
}
