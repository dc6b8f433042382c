//! What a consumer refuses to begin with.

use std::time::Duration;

use pgbell::durable::pgmq::{ConsumerBuilder, Queue};
use pgbell::{Connection, Error, ErrorKind};

use super::support::{Jobs, sql, start};
use crate::support::{Server, run, until, value};

async fn refusal(builder: ConsumerBuilder) -> Error {
    builder.run(|_| async {}).await.unwrap_err()
}

#[test]
fn a_missing_pgmq_a_missing_queue_and_missing_rights_are_named() {
    let server = Server::start();
    run(async {
        let other = server.url();
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        let error = refusal(jobs.queue.consumer(other.as_str())).await;
        assert_eq!(error.kind(), ErrorKind::Schema);
        assert!(error.hint().unwrap().starts_with("install pgmq 1.5 or later"), "{error}");

        let missing = Queue::new("missing").unwrap();
        for builder in
            [missing.consumer(jobs.url.as_str()), jobs.consumer().dead_letter(missing.clone())]
        {
            let error = refusal(builder).await;
            assert_eq!(error.kind(), ErrorKind::Schema);
            assert!(error.to_string().contains("the queue \"missing\" does not exist"), "{error}");
            assert!(error.hint().unwrap().contains("Queue::create or SELECT pgmq.create"));
        }

        sql(&mut session, "CREATE ROLE worker LOGIN").await;
        let url = jobs.server.cluster.url("worker", None, "v1_13");
        let hint = "grant the role USAGE on the schema pgmq, EXECUTE on its functions, and SELECT, INSERT, UPDATE and DELETE on the tables of the queue";
        let error = refusal(jobs.queue.consumer(url.as_str())).await;
        assert_eq!((error.sqlstate(), error.hint()), (Some("42501"), Some(hint)), "{error}");
        sql(
            &mut session,
            "GRANT USAGE ON SCHEMA pgmq TO worker; GRANT SELECT ON pgmq.q_jobs TO worker",
        )
        .await;
        let error = refusal(jobs.queue.consumer(url.as_str())).await;
        let rights = "UPDATE on pgmq.q_jobs, DELETE on pgmq.q_jobs, INSERT on pgmq.a_jobs, SELECT on pgmq.a_jobs";
        assert!(error.to_string().contains(rights), "{error}");
        assert_eq!((error.kind(), error.hint()), (ErrorKind::Schema, Some(hint)));

        // Those that the documentation lists are enough, also with notifications.
        sql(&mut session, "GRANT UPDATE, DELETE ON pgmq.q_jobs TO worker; GRANT SELECT, INSERT ON pgmq.a_jobs TO worker").await;
        jobs.queue.enable_notifications(&mut session, Duration::from_millis(250)).await.unwrap();
        jobs.send(&mut session, 1).await;
        let (running, mut calls) = start(jobs.queue.consumer(url)).await;
        calls.succeed(1).await;
        running.stop(Duration::from_secs(30)).await;
        assert_eq!(jobs.ids(&mut session).await, (String::new(), "1".to_owned()));
    });
}

#[test]
fn settings_that_are_not_valid_are_refused_before_anything_is_sent() {
    run(async {
        let queue = Queue::new("jobs").unwrap();
        let builder = || queue.consumer("postgres://localhost:1/none");
        let (zero, second) = (Duration::ZERO, Duration::from_secs(1));
        for builder in [
            builder().concurrency(0),
            builder().batch_size(0),
            builder().max_attempts(0),
            builder().visibility_timeout(second / 2),
            builder().visibility_timeout(Duration::MAX),
            builder().backoff(second, zero),
            builder().backoff(zero, Duration::MAX),
            builder().interval(zero),
            builder().statement_timeout(zero),
            builder().reconnect(second, second / 2),
            builder().reconnect(zero, second),
            builder().dead_letter(Queue::new("JOBS").unwrap()),
            queue.consumer("port=x"),
        ] {
            let text = format!("{builder:?}");
            assert_eq!(refusal(builder).await.kind(), ErrorKind::Config, "{text}");
        }
    });
}

const DEAD_LETTER_HINT: &str = "grant the role INSERT and SELECT on the table of the dead-letter queue and, if the queue has notifications, SELECT and UPDATE on pgmq.notify_insert_throttle";

/// An earlier version found it out when the first job was put aside, and handled no other one after that.
#[test]
fn rights_that_a_dead_letter_queue_needs_are_named_at_the_start() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        let (dead, url) = (dead_letters(&mut session).await, worker(&jobs).await);
        let builder = || jobs.queue.consumer(url.as_str()).dead_letter(dead.clone());
        let error = refusal(builder()).await;
        assert!(error.to_string().contains("INSERT on pgmq.q_jobs_dead, SELECT on"), "{error}");
        assert_eq!((error.kind(), error.hint()), (ErrorKind::Schema, Some(DEAD_LETTER_HINT)));
        sql(&mut session, "GRANT INSERT, SELECT ON pgmq.q_jobs_dead TO worker").await;
        builder().run(|_| async {}).await.unwrap().stop(Duration::ZERO).await;
        // The trigger of pgmq updates a table.
        dead.enable_notifications(&mut session, Duration::from_millis(250)).await.unwrap();
        let error = refusal(builder()).await;
        let rights = "SELECT on pgmq.notify_insert_throttle, UPDATE on pgmq.notify_insert_throttle";
        assert!(error.to_string().contains(rights), "{error}");
        sql(&mut session, "GRANT SELECT, UPDATE ON pgmq.notify_insert_throttle TO worker").await;
        // These are enough.
        jobs.send(&mut session, 1).await;
        let (running, mut calls) = start(builder().max_attempts(1)).await;
        calls.next().await.fail("no");
        until("it is put aside", || running.stats().dead == 1).await;
        running.stop(Duration::from_secs(30)).await;
        assert_eq!(dead.metrics(&mut session).await.unwrap().length, 1);
    });
}

async fn dead_letters(session: &mut Connection) -> Queue {
    let dead = Queue::new("jobs_dead").unwrap();
    dead.create(session).await.unwrap();
    dead
}

/// Creates the role `worker` with the rights for the queue. Returns its URL.
async fn worker(jobs: &Jobs) -> String {
    let rights = "CREATE ROLE worker LOGIN; GRANT USAGE ON SCHEMA pgmq TO worker; \
        GRANT SELECT, UPDATE, DELETE ON pgmq.q_jobs TO worker; GRANT SELECT, INSERT ON pgmq.a_jobs TO worker";
    sql(&mut jobs.session().await, rights).await;
    jobs.server.cluster.url("worker", None, "v1_13")
}

/// An earlier version repeated the statement for ever, and read nothing any more.
#[test]
fn a_dead_letter_queue_that_refuses_does_not_stop_other_jobs() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        let (dead, url) = (dead_letters(&mut session).await, worker(&jobs).await);
        sql(&mut session, "GRANT INSERT, SELECT ON pgmq.q_jobs_dead TO worker").await;
        let second = Duration::from_secs(1);
        let builder = jobs.queue.consumer(url.as_str()).dead_letter(dead.clone());
        let builder = builder.max_attempts(1).visibility_timeout(second).interval(second / 4);
        let (running, mut calls) = start(builder).await;
        let unsupported = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
            $$ BEGIN RAISE 'no' USING ERRCODE = '0A000'; END $$; \
            CREATE TRIGGER refuse BEFORE INSERT ON pgmq.q_jobs_dead FOR EACH ROW EXECUTE FUNCTION refuse()";
        for (refuse, code, accept) in [
            (
                "REVOKE INSERT ON pgmq.q_jobs_dead FROM worker",
                "42501",
                "GRANT INSERT ON pgmq.q_jobs_dead TO worker",
            ),
            (unsupported, "0A000", "DROP TRIGGER refuse ON pgmq.q_jobs_dead"),
            (
                "ALTER TABLE pgmq.q_jobs_dead RENAME TO other",
                "42P01",
                "ALTER TABLE pgmq.other RENAME TO q_jobs_dead",
            ),
        ] {
            sql(&mut session, refuse).await;
            let before = running.stats();
            let sent = jobs.send(&mut session, 1).await;
            let call = calls.next().await;
            assert_eq!(call.msg_id, sent[0]);
            call.fail(code);
            until("it is refused", || running.stats().refused > before.refused).await;
            let error = running.last_error().unwrap();
            assert_eq!(error.sqlstate(), Some(code), "{error}");
            let others = jobs.send(&mut session, 1).await;
            assert_eq!(calls.succeed(1).await, others);
            until("it is finished", || running.stats().finished > before.finished).await;
            // It is put aside later, for the reason that it had, and without another attempt.
            sql(&mut session, accept).await;
            until("it is put aside", || running.stats().dead > before.dead).await;
            let reason =
                "SELECT message->>'reason' FROM pgmq.q_jobs_dead ORDER BY msg_id DESC LIMIT 1";
            assert_eq!(value(&mut session, reason).await, code);
        }
        assert!(calls.is_empty());
        running.stop(Duration::from_secs(30)).await;
    });
}
