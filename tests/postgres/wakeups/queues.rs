//! Wake-ups beside queues of other programs: what the chapter `existing_queues` of the guide shows.

use std::time::Duration;

use pgbell::{Connection, Error, Wake, WakeTask, WakeWorker};
use tokio::sync::mpsc;

use super::{NEVER, builder};
use crate::support::{Server, TEST_TIMEOUT, next, run};

/// The least time between two notifications of a queue of pgmq, by default.
const THROTTLE: Duration = Duration::from_millis(250);

/// What a worker needs of pgmq 1.13: `create`, `send`, `read`, `delete`, and the trigger of `enable_notify_insert` with its throttle.
const PGMQ: &str = "
    CREATE SCHEMA pgmq;
    CREATE TABLE pgmq.q_orders (
        msg_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        vt timestamptz NOT NULL DEFAULT clock_timestamp(),
        message jsonb);
    CREATE TABLE pgmq.notify_insert_throttle (
        queue_name text UNIQUE, throttle_interval_ms int,
        last_notified_at timestamptz NOT NULL DEFAULT to_timestamp(0));
    INSERT INTO pgmq.notify_insert_throttle VALUES ('orders', 250);
    CREATE FUNCTION pgmq.notify_queue_listeners() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE pgmq.notify_insert_throttle SET last_notified_at = clock_timestamp()
        WHERE queue_name = substring(TG_TABLE_NAME FROM 3) AND
            clock_timestamp() - last_notified_at >= throttle_interval_ms * interval '1 millisecond';
        IF FOUND THEN
            PERFORM pg_notify('pgmq.' || TG_TABLE_NAME || '.' || TG_OP, NULL);
        END IF;
        RETURN NEW;
    END $$;
    CREATE CONSTRAINT TRIGGER listeners AFTER INSERT ON pgmq.q_orders DEFERRABLE
        FOR EACH ROW EXECUTE FUNCTION pgmq.notify_queue_listeners();
    CREATE FUNCTION pgmq.send(text, jsonb) RETURNS bigint LANGUAGE sql AS
        'INSERT INTO pgmq.q_orders (message) VALUES ($2) RETURNING msg_id';
    CREATE FUNCTION pgmq.read(text, vt int, qty int) RETURNS TABLE (msg_id bigint, message jsonb)
    LANGUAGE sql AS $$
        WITH taken AS MATERIALIZED (
            SELECT one.msg_id FROM pgmq.q_orders one WHERE one.vt <= clock_timestamp()
            ORDER BY one.msg_id LIMIT $3 FOR UPDATE SKIP LOCKED)
        UPDATE pgmq.q_orders q SET vt = clock_timestamp() + $2 * interval '1 second'
        FROM taken WHERE q.msg_id = taken.msg_id
        RETURNING q.msg_id, q.message
    $$;
    CREATE FUNCTION pgmq.delete(text, bigint) RETURNS boolean LANGUAGE sql AS
        'DELETE FROM pgmq.q_orders WHERE msg_id = $2 RETURNING true';
";

/// The worker of the chapter. It sends what it reads to the test.
async fn work(
    worker: WakeWorker,
    mut connection: Connection,
    done: mpsc::UnboundedSender<String>,
) -> Result<(), Error> {
    let limit = worker.batch_size().to_string();
    let mut was_notified = false;
    while let Ok(wake) = worker.wake().await {
        was_notified |= matches!(wake, Wake::Notified { .. });
        let read = "SELECT msg_id, message FROM pgmq.read('orders', 30, $1::int)";
        let messages = connection.query(read, &[Some(&limit)]).await?;
        let is_full = worker.found(messages.len());
        for message in messages.iter() {
            let (Some(id), Some(text)) = (message.get(0), message.get(1)) else { continue };
            done.send(text.to_owned()).unwrap();
            connection.query("SELECT pgmq.delete('orders', $1::bigint)", &[Some(id)]).await?;
        }
        if was_notified && !is_full {
            worker.retry_in(THROTTLE);
            was_notified = false;
        }
    }
    Ok(())
}

/// The interval never passes: a message is found by a notification, or by the read after the throttle.
#[test]
fn messages_of_pgmq_that_have_no_notification_are_read_when_the_throttle_has_passed() {
    const ROUNDS: u32 = 10;
    let server = Server::start();
    run(async {
        let mut producer = server.connection().await;
        producer.simple_query(PGMQ).await.unwrap();
        let channel = "pgmq.q_orders.INSERT";
        let mut listener = server.listener(&[channel]).await;
        let task = WakeTask::new("orders").channel(channel).interval(NEVER).batch_size(2);
        let wakeups = builder(&server.url()).task(task).connect().await.unwrap();
        let (done, mut found) = mpsc::unbounded_channel();
        let worker = wakeups.worker("orders").unwrap();
        let working = tokio::spawn(work(worker.clone(), server.connection().await, done));
        for round in 1..=ROUNDS {
            // The last ones are within the throttle of the first one, and more than one batch.
            for part in 0..5 {
                let sql = format!("SELECT pgmq.send('orders', '\"{round}-{part}\"')");
                producer.simple_query(&sql).await.unwrap();
            }
            let mut parts = Vec::new();
            while parts.len() < 5 {
                let text = tokio::time::timeout(TEST_TIMEOUT, found.recv()).await;
                parts.push(text.expect("a message is read").unwrap());
            }
            let expected: Vec<_> = (0..5).map(|part| format!("\"{round}-{part}\"")).collect();
            // The order of the rows of one read is not defined.
            parts.sort_unstable();
            assert_eq!(parts, expected);
        }
        let stats = worker.stats();
        // Fewer than messages, so most of them had none.
        assert!(stats.notifications < u64::from(2 * ROUNDS), "{stats:?}");
        assert_eq!(next(&mut listener).await.payload(), "");
        wakeups.close().await;
        working.await.unwrap().unwrap();
    });
}
