//! The calls of a queue.

use std::time::{Duration, SystemTime};

use pgbell::ErrorKind;
use pgbell::durable::pgmq::{Message, Queue};

use super::support::{Jobs, Pgmq, database, sql};
use crate::examples::example_output;
use crate::matrix::on_every_version;
use crate::support::{Server, run, value};

const MINUTE: Duration = Duration::from_secs(60);

on_every_version! {
    every_call_of_a_queue
    a_message_and_its_notification_are_one_transaction
}

fn every_call_of_a_queue(major: u32) {
    let server = Server::of(major);
    run(async {
        for pgmq in Pgmq::ALL {
            check_calls(&server, pgmq).await;
        }
    });
}

async fn check_calls(server: &Server, pgmq: Pgmq) {
    let mut session = pgbell::Connection::connect(database(server, pgmq).await).await.unwrap();
    let queue = Queue::new("Mail out").unwrap();
    assert!(!queue.drop_queue(&mut session).await.unwrap());
    queue.create(&mut session).await.unwrap();
    queue.create(&mut session).await.unwrap();

    // What a text in an array must escape.
    let odd = r#"{"quote": "\"", "backslash": "\\", "brace": "}{,"}"#;
    let first = queue.send(&mut session, odd, Duration::ZERO).await.unwrap();
    let batch = queue.send_batch(&mut session, [odd, "2", "null"], Duration::ZERO).await.unwrap();
    assert_eq!((first, &batch[..]), (1, &[2, 3, 4][..]));
    assert!(queue.send_batch(&mut session, [], MINUTE).await.unwrap().is_empty());
    let late = queue.send(&mut session, "5", MINUTE).await.unwrap();
    let headers = r#"{"trace": "a\"b"}"#;
    queue.send_with_headers(&mut session, "6", headers, Duration::ZERO).await.unwrap();

    let metrics = queue.metrics(&mut session).await.unwrap();
    assert_eq!((metrics.length, metrics.visible, metrics.total), (6, 5, 6));
    assert!(metrics.oldest.is_some_and(|age| age < MINUTE), "{metrics:?}");

    let found = queue.read(&mut session, MINUTE, 4).await.unwrap();
    let ids = |found: &[Message]| found.iter().map(Message::msg_id).collect::<Vec<_>>();
    assert_eq!(ids(&found), [1, 2, 3, 4]);
    assert_eq!(found[0].message(), found[1].message());
    assert!(found[0].message().contains(r#""quote": "\"""#), "{}", found[0].message());
    assert_eq!((found[2].message(), found[3].message()), ("2", "null"));
    assert_eq!((found[0].read_count(), found[0].headers()), (1, None));
    let age = SystemTime::now().duration_since(found[0].enqueued_at()).unwrap();
    assert!(age < MINUTE, "{age:?}");
    let left = found[0].visible_at().duration_since(SystemTime::now()).unwrap();
    assert!(left <= MINUTE && left > MINUTE / 2, "{left:?}");
    let rest = queue.read(&mut session, MINUTE, 10).await.unwrap();
    assert_eq!((ids(&rest), rest[0].headers()), (vec![6], Some(r#"{"trace": "a\"b"}"#)));

    let moved = queue.set_visibility(&mut session, &[1, 3, 99], Duration::ZERO).await.unwrap();
    assert_eq!(moved, [1, 3]);
    let popped = queue.pop(&mut session).await.unwrap().unwrap();
    assert_eq!((popped.msg_id(), popped.read_count()), (1, 1));
    let again = queue.read(&mut session, MINUTE, 10).await.unwrap();
    assert_eq!((ids(&again), again[0].read_count()), (vec![3], 2));
    assert!(queue.pop(&mut session).await.unwrap().is_none());

    assert_eq!(queue.archive(&mut session, &[1, 2]).await.unwrap(), [2]);
    assert_eq!(queue.archive(&mut session, &[2]).await.unwrap(), [] as [i64; 0]);
    assert_eq!(queue.delete(&mut session, &[3, 3, 98]).await.unwrap(), [3]);
    let archived = r#"SELECT string_agg(msg_id::text, ',') FROM pgmq."a_mail out""#;
    assert_eq!(value(&mut session, archived).await, "2");
    // The late one, the null and the one with headers.
    assert_eq!(queue.purge(&mut session).await.unwrap(), 3);
    assert_eq!((late, queue.metrics(&mut session).await.unwrap().length), (5, 0));
    assert!(queue.drop_queue(&mut session).await.unwrap());
    let error = queue.read(&mut session, MINUTE, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema);
    let hint = "create the queue first, with Queue::create or SELECT pgmq.create('name')";
    assert_eq!(error.hint(), Some(hint));
}

/// G1: a job that is rolled back does not exist, and its notification is not sent.
fn a_message_and_its_notification_are_one_transaction(major: u32) {
    let server = Server::of(major);
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        let mut listener = jobs.session().await;
        listener.listen("jobs_channel").await.unwrap();
        for (payload, end) in [("1", "ROLLBACK"), ("2", "COMMIT")] {
            sql(&mut session, "BEGIN").await;
            let parameters = [Some("jobs"), Some(payload), Some("0")];
            session.query(Queue::send_sql(), &parameters).await.unwrap();
            session.notify("jobs_channel", payload).await.unwrap();
            sql(&mut session, end).await;
        }
        let batch = listener.recv_batch().await.unwrap();
        let payloads: Vec<_> = batch.iter().map(|one| one.payload().to_owned()).collect();
        assert_eq!(payloads, ["2"]);
        let found = jobs.queue.read(&mut session, MINUTE, 10).await.unwrap();
        assert_eq!(found.iter().map(Message::message).collect::<Vec<_>>(), ["2"]);
    });
}

/// G8: the job that fails in each attempt is put aside, and the others are done.
#[test]
fn the_example_of_a_job_queue_does_each_committed_job_and_puts_one_aside() {
    let server = Server::start();
    run(async {
        let mut session = server.connection().await;
        sql(&mut session, &Pgmq::V1_13.sql()).await;
        let text = tokio::task::block_in_place(|| example_output(&server, "job_queue"));
        let (first, dead) = text.split_once('\n').unwrap();
        assert_eq!(first, "14 done, 4 attempts failed, 1 put aside");
        assert!(dead.contains("\"reason\": \"there is no such address\""), "{dead}");
        assert!(dead.contains("\"message\": {\"number\": 7}"), "{dead}");
        assert_eq!(dead.lines().count(), 1);
        assert_eq!(value(&mut session, "SELECT count(*) FROM pgmq.meta").await, "0");
    });
}
