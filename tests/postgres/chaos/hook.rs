//! The hook reads the state, and what it reads is complete.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgbell::{Error, Event, Listener, Live};

use crate::support::{PATIENCE, Server, number, run, until, value};

/// A table that a writer counts up, one notification for each step. Whoever reads the table in the hook and
/// then follows the notifications never misses a step, whatever happens to the session.
#[test]
fn state_read_in_the_hook_and_the_notifications_after_it_leave_nothing_out() {
    let server = Server::start();
    run(async {
        let mut writer = server.connection().await;
        writer.simple_query("CREATE TABLE counter AS SELECT 0 AS n").await.unwrap();
        let read = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&read);
        let builder = Listener::builder(server.url()).channels(["counter"]);
        let builder = builder.backoff(Duration::from_millis(10), Duration::from_millis(50));
        let mut listener = builder
            .on_live(move |mut connection, live| {
                let log = Arc::clone(&log);
                async move {
                    let n = value(&mut connection, "SELECT n FROM counter").await;
                    log.lock()
                        .unwrap()
                        .push((matches!(live, Live::Start), n.parse::<u64>().unwrap()));
                    connection.close().await
                }
            })
            .connect()
            .await
            .unwrap();
        let handle = listener.handle();
        let step = "BEGIN; UPDATE counter SET n = n + 1; SELECT pg_notify('counter', n::text) FROM counter; COMMIT";
        let killer = async {
            for step_number in 1..=200_u64 {
                writer.simple_query(step).await.unwrap();
                if step_number % 20 == 0
                    && let Some(process_id) = handle.process_id()
                {
                    let _ = server.cluster.terminate_backend(process_id);
                }
            }
        };
        let mut known = 0;
        let mut reads = 0;
        let follower = async {
            while known < 200 {
                let event = tokio::time::timeout(PATIENCE, listener.recv()).await.unwrap().unwrap();
                // Whatever the hook has read by now came before this event.
                let states = read.lock().unwrap().clone();
                match event {
                    Event::Notification(notification) => {
                        let n = number(notification.payload());
                        if reads == 0 {
                            (known, reads) = (states[0].1, 1);
                        }
                        assert!(n <= known + 1, "the steps from {} to {n} are missing", known + 1);
                        known = known.max(n);
                    }
                    Event::Gap(_) => {
                        // Two losses with something between them are two gaps, and may be one run of the hook.
                        assert!(states.len() >= reads.max(1), "a gap before the state was read");
                        reads = states.len();
                        known = known.max(states[reads - 1].1);
                    }
                    other => panic!("{other:?}"),
                }
            }
        };
        tokio::join!(killer, follower);
        let states = read.lock().unwrap().clone();
        // A session that is lost while the hook runs at the start has it run at the start again.
        let mut later = states.iter().skip_while(|(start, _)| *start);
        assert!(states[0].0 && later.all(|(start, _)| !start), "{states:?}");
        report!("{states:?}");
        listener.close().await.unwrap();
    });
}

#[test]
fn a_hook_that_fails_or_panics_is_run_again_and_holds_delivery_back_until_it_succeeds() {
    let server = Server::start();
    run(async {
        let runs = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&runs);
        let builder = Listener::builder(server.url()).channels(["a"]);
        let builder = builder.backoff(Duration::from_millis(10), Duration::from_millis(50));
        let mut listener = builder
            .on_live(move |connection, _| {
                let run = counter.fetch_add(1, Ordering::SeqCst);
                async move {
                    match run {
                        0 => Err(Error::other("not yet")),
                        1 => panic!("a hook that panics"),
                        _ => connection.close().await,
                    }
                }
            })
            .connect()
            .await
            .unwrap();
        server.notifier().await.notify("a", "held back").await.unwrap();
        until("the hook has failed", || listener.stats().hook_failures == 1).await;
        let event = tokio::time::timeout(PATIENCE, listener.recv()).await.unwrap().unwrap();
        assert!(matches!(&event, Event::Notification(_)), "{event:?}");
        assert_eq!(runs.load(Ordering::SeqCst), 3);
        assert_eq!((listener.stats().hooks, listener.stats().hook_failures), (3, 2));
        assert!(listener.last_error().unwrap().to_string().contains("panicked"));
        listener.close().await.unwrap();
    });
}
