//! Messages that do not fit into a result.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgbell::Config;
use pgbell::durable::pgmq::{Finish, Queue};

use super::support::{Jobs, Pgmq, sql, start};
use crate::matrix::on_every_version;
use crate::support::{Server, run, until, value};

on_every_version! {
    one_message_that_is_larger_than_a_result_does_not_block_its_batch
}

/// An earlier version read the whole batch again and again: nothing was handled, and the attempts of all were used up.
fn one_message_that_is_larger_than_a_result_does_not_block_its_batch(major: u32) {
    let server = Server::of(major);
    run(async {
        let jobs = Jobs::with(server, Pgmq::V1_11).await;
        check(&jobs, false).await;
        let jobs = Jobs::with(jobs.server, Pgmq::V1_13).await;
        check(&jobs, true).await;
    });
}

async fn check(jobs: &Jobs, has_dead_letter: bool) {
    let mut session = jobs.session().await;
    let dead = Queue::new("jobs_dead").unwrap();
    dead.create(&mut session).await.unwrap();
    // The second one is larger than the limit, the third one has large headers. Of the others two fit into one result.
    let send = "SELECT pgmq.send('jobs', to_jsonb(repeat('x', size)), to_jsonb(repeat('y', headers)), 0) \
        FROM (VALUES (1, 10, 10), (2, 100000, 0), (3, 10, 100000), (4, 20000, 0), (5, 20000, 0), (6, 20000, 0), (7, 0, 20000), (8, 10, 10)) \
        AS sizes (number, size, headers) ORDER BY number";
    sql(&mut session, send).await;
    let config = jobs.url.parse::<Config>().unwrap().result_limit_bytes(64 * 1024);
    let reported = Arc::new(Mutex::new(Vec::new()));
    let report = reported.clone();
    let mut builder = jobs
        .queue
        .consumer(config)
        .interval(Duration::from_secs(600))
        .finish(Finish::Delete)
        .max_attempts(2)
        .concurrency(1)
        .on_dead(move |job| {
            let reason = job.reason().to_owned();
            report.lock().unwrap().push((job.msg_id(), job.attempts(), reason));
        });
    if has_dead_letter {
        builder = builder.dead_letter(dead);
    }
    let (running, mut calls) = start(builder).await;
    for msg_id in [1, 4, 5, 6, 7, 8] {
        let call = calls.next().await;
        // Those that did not fit beside others have used no attempt.
        assert_eq!((call.msg_id, call.attempts), (msg_id, 1));
        call.succeed();
    }
    until("all have ended", || running.stats().finished == 6 && running.stats().dead == 2).await;
    let mut reported = reported.lock().unwrap().clone();
    reported.sort();
    let [second, third] = &reported[..] else { panic!("{reported:?}") };
    assert_eq!((second.0, second.1, third.0, third.1), (2, 1, 3, 1));
    for (.., reason) in [second, third] {
        assert!(reason.contains("bytes, more than the 57344 that fit into a result"), "{reason}");
    }
    // The data was not sent to the client, and is not lost.
    let kept = match has_dead_letter {
        false => {
            "SELECT string_agg(octet_length(message::text)::text, ' ' ORDER BY msg_id) FROM pgmq.a_jobs"
        }
        true => {
            "SELECT string_agg(octet_length((message->'message')::text)::text, ' ' ORDER BY msg_id) FROM pgmq.q_jobs_dead"
        }
    };
    assert_eq!(value(&mut session, kept).await, "100002 12");
    let stats = running.stats();
    assert_eq!((stats.retries, stats.failures), (0, 0));
    assert!(stats.released > 0, "{stats:?}");
    running.stop(Duration::from_secs(30)).await;
}

/// The size is that in UTF-8, in which the text arrives.
#[test]
fn a_message_of_a_database_with_another_encoding_has_its_size_in_utf_8() {
    let server = Server::start();
    run(async {
        let mut admin = server.connection().await;
        sql(&mut admin, "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
            .await;
        let cluster = &server.cluster;
        let url = cluster.url(cluster.superuser(), cluster.superuser_password(), "latin");
        let mut session = pgbell::Connection::connect(url.as_str()).await.unwrap();
        sql(&mut session, &Pgmq::V1_13.sql()).await;
        let queue = Queue::new("jobs").unwrap();
        queue.create(&mut session).await.unwrap();
        let send =
            "SELECT pgmq.send('jobs', to_jsonb(repeat(chr(228), 40000))), pgmq.send('jobs', '2')";
        sql(&mut session, send).await;
        let config = url.parse::<Config>().unwrap().result_limit_bytes(64 * 1024);
        let builder = queue.consumer(config).interval(Duration::from_secs(600));
        let (running, mut calls) = start(builder).await;
        assert_eq!(calls.succeed(1).await, [2]);
        until("both have ended", || running.stats().finished == 1 && running.stats().dead == 1)
            .await;
        running.stop(Duration::from_secs(30)).await;
    });
}
