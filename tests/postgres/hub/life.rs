//! The life of a hub: hook, drain, close, handover, and very many subscriptions whose session dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pgbell::{ErrorKind, Event, Live, Loss, State};

use super::{builder, event, hub, notification, payloads};
use crate::support::{Server, TEST_TIMEOUT, run, run_for, until};

#[test]
fn the_hook_runs_at_the_start_and_after_a_loss_before_anything_is_delivered() {
    let server = Server::start();
    run(async {
        let runs = Arc::new(AtomicU64::new(0));
        let counted = runs.clone();
        let builder = builder(&server).on_resync(move |mut connection, live| {
            let runs = counted.clone();
            async move {
                let rows = connection.simple_query("SELECT 1").await?;
                assert_eq!(rows[0].len(), 1);
                // What is committed meanwhile is delivered afterwards.
                connection.notify("a", "during").await?;
                connection.close().await;
                let is_first = runs.fetch_add(1, Ordering::SeqCst) == 0;
                assert_eq!(is_first, matches!(live, Live::Start));
                Ok(())
            }
        });
        let hub = builder.connect().await.unwrap();
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        let mut subscription = hub.subscribe("a").await.unwrap();
        server.cluster.terminate_backend(hub.handle().process_id().unwrap()).unwrap();
        let Event::Gap(gap) = event(&mut subscription).await else { panic!("no gap") };
        assert_eq!((gap.sessions(), runs.load(Ordering::SeqCst)), (1, 2));
        assert_eq!(notification(&mut subscription).await.payload(), "during");
        hub.close().await;
    });
}

/// S11.
#[test]
fn a_drain_delivers_what_was_committed_before_to_every_subscription() {
    let server = Server::start();
    run(async {
        let hub = hub(&server).await;
        let notifier = server.notifier().await;
        let mut all = Vec::new();
        for number in 0..50 {
            all.push(hub.subscribe_topic("a", (number % 7).to_string()).await.unwrap());
        }
        for number in 0..70 {
            let topic = (number % 7).to_string();
            notifier.notify_topic("a", topic, number.to_string()).await.unwrap();
        }
        let handle = hub.handle();
        handle.drain(TEST_TIMEOUT).await.unwrap();
        let refused = hub.subscribe("a").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Closed);
        for (index, subscription) in all.iter_mut().enumerate() {
            let expected: Vec<_> =
                (0..70).filter(|n| n % 7 == index % 7).map(|n| n.to_string()).collect();
            assert_eq!(payloads(subscription, 10).await, expected);
            assert_eq!(subscription.recv().await.unwrap_err().kind(), ErrorKind::Closed);
        }
        assert_eq!(handle.state(), State::Closed);
    });
}

#[test]
fn a_handover_of_a_hub_loses_nothing_and_reports_nothing() {
    let server = Server::start();
    run(async {
        let hub = hub(&server).await;
        let handle = hub.handle();
        let mut notifier = server.connection().await;
        // A slow handover takes more than the default queue.
        let subscription = hub.subscribe("a").queue_capacity(1_000_000).queue_bytes(1 << 30);
        let mut subscription = subscription.await.unwrap();
        let before = handle.process_id();
        handle.rotate().await.unwrap();
        let mut sent = 0;
        while hub.stats().connection.handovers == 0 || sent < 200 {
            notifier.notify("a", &sent.to_string()).await.unwrap();
            sent += 1;
        }
        assert_ne!(handle.process_id(), before);
        let expected: Vec<_> = (0..sent).map(|n| n.to_string()).collect();
        assert_eq!(payloads(&mut subscription, sent).await, expected);
        hub.close().await;
    });
}

/// Programs drop them in any order.
#[test]
fn a_subscription_that_outlives_its_hub_ends_and_one_that_leaves_with_unread_events_leaves_nothing()
{
    let server = Server::start();
    run(async {
        let hub = hub(&server).await;
        let notifier = server.notifier().await;
        let mut kept = hub.subscribe("a").await.unwrap();
        let leaves = hub.subscribe("a").await.unwrap();
        notifier.notify("a", "1").await.unwrap();
        until("it has arrived", || leaves.stats().queued == 1).await;
        drop(leaves);
        assert_eq!(hub.stats().subscriptions, 1);
        drop(hub);
        assert_eq!(notification(&mut kept).await.payload(), "1");
        assert_eq!(kept.recv().await.unwrap_err().kind(), ErrorKind::Closed);
        assert!(kept.try_recv().is_err());
    });
}

/// D4: one connection for all of them.
#[test]
fn a_hundred_thousand_subscriptions_get_one_gap_each_when_the_session_dies() {
    const COUNT: usize = 100_000;
    let server = Server::start();
    run_for(4 * TEST_TIMEOUT, async {
        let hub = hub(&server).await;
        let notifier = server.notifier().await;
        let mut all = Vec::with_capacity(COUNT);
        for number in 0..COUNT {
            let topic = number.to_string();
            all.push(hub.subscribe_topic(format!("ch{}", number % 8), topic).await.unwrap());
        }
        assert_eq!(hub.stats().topics, COUNT as u64);
        server.cluster.terminate_backend(hub.handle().process_id().unwrap()).unwrap();
        until("each has its gap", || all.iter().all(|one| one.stats().gaps == 1)).await;
        for (number, subscription) in all.iter_mut().enumerate() {
            let batch = subscription.recv_batch().await.unwrap();
            assert!(matches!(batch.loss(), Some(Loss::Gap(_))), "{number}: {batch:?}");
        }
        for number in [0, 4_711, COUNT - 1] {
            let topic = number.to_string();
            notifier.notify_topic(format!("ch{}", number % 8), topic, "after").await.unwrap();
            assert_eq!(notification(&mut all[number]).await.payload(), "after");
        }
        drop(all);
        until("nothing is left", || hub.stats().channels == 0).await;
        hub.close().await;
    });
}

/// S10: every worker is woken, and each job is taken by one of them.
#[test]
fn of_workers_on_one_hub_that_skip_locked_rows_one_takes_each_job() {
    const JOBS: usize = 100;
    let server = Server::start();
    run(async {
        let mut producer = server.connection().await;
        producer.simple_query("CREATE TABLE job (id int PRIMARY KEY)").await.unwrap();
        let hub = hub(&server).await;
        let mut workers = Vec::new();
        for _ in 0..4 {
            let mut subscription = hub.subscribe("job").await.unwrap();
            let mut connection = server.connection().await;
            workers.push(tokio::spawn(async move {
                let take = "DELETE FROM job WHERE id = \
                            (SELECT id FROM job ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1) RETURNING id";
                let mut taken = Vec::new();
                while notification(&mut subscription).await.payload() != "end" {
                    let rows = connection.query(take, &[]).await.unwrap();
                    let ids = rows.iter().map(|row| row.get(0).unwrap().parse::<usize>().unwrap());
                    taken.extend(ids);
                }
                taken
            }));
        }
        let enqueue = "WITH job AS (INSERT INTO job VALUES ($1::text::int)) \
                       SELECT pg_notify('job', $1::text)";
        for id in 0..JOBS {
            producer.query(enqueue, &[Some(&id.to_string())]).await.unwrap();
        }
        producer.notify("job", "end").await.unwrap();
        let mut taken = Vec::new();
        for worker in workers {
            taken.extend(worker.await.unwrap());
        }
        taken.sort_unstable();
        assert!(taken.iter().copied().eq(0..JOBS), "{taken:?}");
        hub.close().await;
    });
}

/// A subscription that sleeps for ever affects no other one.
#[test]
fn a_sleeper_and_a_consumer_that_panics_affect_no_other_subscription() {
    let server = Server::start();
    run(async {
        let hub = hub(&server).await;
        let notifier = server.notifier().await;
        let sleeper = hub.subscribe("a").queue_capacity(10).await.unwrap();
        let mut panics = hub.subscribe("a").await.unwrap();
        let mut others = Vec::new();
        for _ in 0..5 {
            others.push(hub.subscribe("a").await.unwrap());
        }
        let panicking = tokio::spawn(async move {
            let _ = notification(&mut panics).await;
            panic!("a consumer panics: this is a part of the test");
        });
        for number in 0..1_000 {
            notifier.notify("a", number.to_string()).await.unwrap();
        }
        assert!(panicking.await.is_err());
        for other in &mut others {
            assert_eq!(payloads(other, 1_000).await.len(), 1_000);
        }
        let stats = sleeper.stats();
        assert_eq!((stats.received, stats.queued, stats.dropped), (1_000, 10, 990));
        assert_eq!(hub.stats().subscriptions, 6);
        hub.close().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    });
}
