//! Which pgmq a database has, and its notifications.

use std::time::Duration;

use pgbell::durable::pgmq::{Queue, Version};
use pgbell::{Connection, ErrorKind};
use pgbell_testkit::Mode;

use super::support::{Jobs, Pgmq, database, sql, start, update_sql};
use crate::matrix::on_every_version;
use crate::support::{Server, run, until};

on_every_version! {
    the_version_is_found_without_the_extension
    pgmq_sends_notifications_on_the_channel_of_the_queue
}

const INSTALL_HINT: &str =
    "install pgmq 1.5 or later: CREATE EXTENSION pgmq, or run its SQL, which needs no extension";

fn the_version_is_found_without_the_extension(major: u32) {
    let server = Server::of(major);
    run(async {
        let mut session = server.connection().await;
        let missing = Version::of(&mut session).await.unwrap_err();
        assert_eq!((missing.kind(), missing.hint()), (ErrorKind::Schema, Some(INSTALL_HINT)));
        let queue = Queue::new("jobs").unwrap();
        let missing = queue.create(&mut session).await.unwrap_err();
        assert_eq!((missing.kind(), missing.hint()), (ErrorKind::Schema, Some(INSTALL_HINT)));

        let newest = database(&server, Pgmq::V1_13).await;
        let mut newest = Connection::connect(newest).await.unwrap();
        assert_eq!(Version::of(&mut newest).await.unwrap().to_string(), "1.13");

        let mut old = Connection::connect(database(&server, Pgmq::V1_11).await).await.unwrap();
        queue.create(&mut old).await.unwrap();
        assert_eq!(Version::of(&mut old).await.unwrap().to_string(), "1.11");
        let mut from = "1.11.0";
        for (to, expected) in [("1.11.1", "1.11"), ("1.12.0", "1.12"), ("1.13.0", "1.13")] {
            sql(&mut old, &update_sql(from, to)).await;
            assert_eq!(Version::of(&mut old).await.unwrap().to_string(), expected);
            from = to;
        }
        assert_eq!(queue.metrics(&mut old).await.unwrap().length, 0);
        // What 1.10 does with queues that an earlier version has created.
        sql(&mut old, "CREATE OR REPLACE FUNCTION pgmq.pop(queue_name text, qty integer DEFAULT 1) RETURNS SETOF pgmq.message_record LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE 'SELECT 1'; END $$").await;
        let error = queue.pop(&mut old).await.unwrap_err();
        let hint = "update pgmq to 1.11 or later: 1.10 cannot read all queues, for example those that an earlier version has created";
        assert_eq!((error.kind(), error.hint()), (ErrorKind::Schema, Some(hint)), "{error}");
        sql(&mut old, "DROP FUNCTION pgmq.archive(text, bigint[])").await;
        let error = Version::of(&mut old).await.unwrap_err();
        assert!(
            error.to_string().contains("1.13, without pgmq.archive(text, bigint[])"),
            "{error}"
        );
        sql(&mut old, "DROP TYPE pgmq.message_record CASCADE; DROP TYPE pgmq.metrics_result CASCADE; DROP FUNCTION pgmq.list_topic_bindings(), pgmq.enable_notify_insert, pgmq.acquire_queue_lock").await;
        let error = Version::of(&mut old).await.unwrap_err();
        assert!(error.to_string().contains("older than 1.5"), "{error}");
    });
}

/// The extension needs a file in the installation of the server, so the test writes its row of the catalogue.
#[test]
fn a_version_of_the_extension_that_is_not_known_is_refused() {
    let server = Server::start();
    run(async {
        let mut session = Connection::connect(database(&server, Pgmq::V1_13).await).await.unwrap();
        sql(&mut session, "SET allow_system_table_mods = on; INSERT INTO pg_extension SELECT 99999, 'pgmq', 10, oid, false, '1.20.3' FROM pg_namespace WHERE nspname = 'pgmq'").await;
        assert_eq!(Version::of(&mut session).await.unwrap().to_string(), "1.20");
        let queue = Queue::new("jobs").unwrap();
        for old in ["1.6.1", "1.7.1"] {
            sql(
                &mut session,
                &format!("UPDATE pg_extension SET extversion = '{old}' WHERE extname = 'pgmq'"),
            )
            .await;
            let throttle = Duration::from_millis(250);
            let error = queue.enable_notifications(&mut session, throttle).await.unwrap_err();
            let hint = "update pgmq, or send NOTIFY in the transaction of the sender";
            assert_eq!((error.kind(), error.hint()), (ErrorKind::Unsupported, Some(hint)));
        }
        for unknown in ["2.0.0", "1.4.5", "0.33.3", "next"] {
            sql(
                &mut session,
                &format!("UPDATE pg_extension SET extversion = '{unknown}' WHERE extname = 'pgmq'"),
            )
            .await;
            let error = Version::of(&mut session).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Schema);
            assert!(error.to_string().contains(unknown), "{error}");
            let hint = "use pgmq from 1.5 on, below 2.0, or a later version of pgbell";
            assert_eq!(error.hint(), Some(hint));
        }
    });
}

/// G7: the channel is `pgmq.q_<queue>.INSERT`, the payload is empty, and there is one in the throttle.
fn pgmq_sends_notifications_on_the_channel_of_the_queue(major: u32) {
    let server = Server::of(major);
    run(async {
        for pgmq in Pgmq::ALL {
            let url = database(&server, pgmq).await;
            let mut session = Connection::connect(url.as_str()).await.unwrap();
            let mut listener = Connection::connect(url.as_str()).await.unwrap();
            // The longest name has the longest channel.
            for name in ["jobs".to_owned(), "q".repeat(47)] {
                let queue = Queue::new(name).unwrap();
                let missing =
                    queue.enable_notifications(&mut session, Duration::ZERO).await.unwrap_err();
                assert_eq!(missing.kind(), ErrorKind::Schema, "{missing}");
                queue.create(&mut session).await.unwrap();
                let throttle = Duration::from_secs(600);
                queue.enable_notifications(&mut session, throttle).await.unwrap();
                assert_eq!(queue.notifications(&mut session).await.unwrap(), Some(throttle));
                listener.listen(queue.channel()).await.unwrap();
                for _ in 0..3 {
                    queue.send(&mut session, "1", Duration::ZERO).await.unwrap();
                }
                session.notify(queue.channel(), "end").await.unwrap();
                assert_eq!(payloads(&mut listener, "end").await, [""]);
                queue.disable_notifications(&mut session).await.unwrap();
                queue.enable_notifications(&mut session, Duration::ZERO).await.unwrap();
                for _ in 0..3 {
                    queue.send(&mut session, "1", Duration::ZERO).await.unwrap();
                }
                queue.disable_notifications(&mut session).await.unwrap();
                queue.send(&mut session, "1", Duration::ZERO).await.unwrap();
                session.notify(queue.channel(), "end").await.unwrap();
                assert_eq!(payloads(&mut listener, "end").await, ["", "", ""]);
            }
            let upper = Queue::new("Jobs_2").unwrap();
            upper.create(&mut session).await.unwrap();
            assert_eq!(upper.notifications(&mut session).await.unwrap(), None);
            let error = upper.enable_notifications(&mut session, Duration::ZERO).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            let hint = "use a name in lower case, or send NOTIFY in the transaction of the sender";
            assert_eq!(error.hint(), Some(hint));
            // That is why.
            sql(&mut session, "SELECT pgmq.enable_notify_insert('Jobs_2', 0)").await;
            assert_eq!(upper.notifications(&mut session).await.unwrap(), None);
            listener.listen(upper.channel()).await.unwrap();
            upper.send(&mut session, "1", Duration::ZERO).await.unwrap();
            session.notify(upper.channel(), "end").await.unwrap();
            assert_eq!(payloads(&mut listener, "end").await, [] as [&str; 0]);
        }
    });
}

/// Receives the payloads before `end`.
async fn payloads(listener: &mut Connection, end: &str) -> Vec<String> {
    let mut found = Vec::new();
    loop {
        for notification in listener.recv_batch().await.unwrap() {
            if notification.payload() == end {
                return found;
            }
            found.push(notification.payload().to_owned());
        }
    }
}

/// The table of the throttles is unlogged. The poll finds what is not announced.
#[test]
fn after_a_crash_of_the_server_pgmq_sends_no_notifications_until_they_are_enabled_again() {
    let server = Server::with(|builder| builder.setting("synchronous_commit", "on"));
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        let throttle = Duration::from_millis(250);
        jobs.queue.enable_notifications(&mut session, throttle).await.unwrap();
        assert_eq!(jobs.queue.notifications(&mut session).await.unwrap(), Some(throttle));
        jobs.server.cluster.stop(Mode::Immediate).unwrap();
        jobs.server.cluster.start_again().unwrap();
        let mut session = jobs.session().await;
        assert_eq!(jobs.queue.notifications(&mut session).await.unwrap(), None);
        let (running, mut calls) =
            start(jobs.consumer().interval(Duration::from_millis(500))).await;
        until("it has read", || running.stats().reads > 0).await;
        let sent = jobs.send(&mut session, 1).await;
        assert_eq!(calls.succeed(1).await, sent);
        running.stop(Duration::from_secs(30)).await;
        jobs.queue.enable_notifications(&mut session, throttle).await.unwrap();
        assert_eq!(jobs.queue.notifications(&mut session).await.unwrap(), Some(throttle));
        let missing = Queue::new("missing").unwrap();
        let error = missing.notifications(&mut session).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema);
    });
}
