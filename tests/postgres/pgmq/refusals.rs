//! What a consumer refuses to begin with.

use std::time::Duration;

use pgbell::durable::pgmq::{ConsumerBuilder, Queue};
use pgbell::{Error, ErrorKind};

use super::support::{Jobs, sql, start};
use crate::support::{Server, run};

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
