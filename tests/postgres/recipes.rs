//! What programs build from listeners and queries: jobs that are done once, producers, and caches.

use std::collections::BTreeMap;
use std::time::Duration;

use pgbell::{Connection, Event, Gap, Listener, Notification, State};
use pgbell_testkit::{Cut, Proxy};

use crate::support::{Server, TEST_TIMEOUT, next, run, until, value};

const JOBS: usize = 200;

async fn create_jobs(connection: &mut Connection) {
    connection.simple_query("CREATE TABLE job (id int PRIMARY KEY)").await.unwrap();
}

/// Takes one job for each notification, and returns the jobs that it took.
async fn work(mut listener: Listener, mut connection: Connection) -> Vec<usize> {
    let take = "DELETE FROM job WHERE id = \
                (SELECT id FROM job ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1) RETURNING id";
    let (mut notified, mut taken) = (0, Vec::new());
    while next(&mut listener).await.payload() != "end" {
        notified += 1;
        let rows = connection.query(take, &[]).await.unwrap();
        taken.extend(rows.iter().map(|row| row.get(0).unwrap().parse::<usize>().unwrap()));
    }
    assert_eq!(notified, JOBS);
    taken
}

/// S10: every worker gets every notification, and each job is taken by one worker.
#[test]
fn of_four_workers_that_skip_locked_rows_one_takes_each_job() {
    let server = Server::start();
    run(async {
        let mut producer = server.connection().await;
        create_jobs(&mut producer).await;
        let mut workers = Vec::new();
        for _ in 0..4 {
            let listener = server.listener(&["job"]).await;
            workers.push(tokio::spawn(work(listener, server.connection().await)));
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
        assert_eq!(value(&mut producer, "SELECT count(*) FROM job").await, "0");
    });
}

/// G1: after a rollback there is no job and no notification. A consumer that is notified finds the job.
#[test]
fn a_job_and_its_notification_are_committed_together_or_not_at_all() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["job"]).await;
        let mut producer = server.connection().await;
        let mut consumer = server.connection().await;
        create_jobs(&mut producer).await;
        let count = "SELECT count(*) FROM job";
        for (id, end) in [("1", "COMMIT"), ("2", "ROLLBACK"), ("3", "COMMIT"), ("4", "SELECT 1/0")]
        {
            producer.simple_query("BEGIN").await.unwrap();
            let insert = "INSERT INTO job VALUES ($1::text::int)";
            producer.query(insert, &[Some(id)]).await.unwrap();
            producer.notify("job", id).await.unwrap();
            // The job of an earlier round was taken.
            assert_eq!(value(&mut consumer, count).await, "0", "job {id} before its commit");
            let ended = producer.simple_query(end).await;
            if ended.is_err() {
                producer.simple_query("COMMIT").await.unwrap();
            }
            if end == "COMMIT" {
                assert_eq!(next(&mut listener).await.payload(), id);
                let take = "DELETE FROM job RETURNING id";
                assert_eq!(value(&mut consumer, take).await, id);
            }
        }
        producer.notify("job", "end").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "end");
        assert_eq!(value(&mut consumer, count).await, "0");
    });
}

/// Names by id, read from the table `item`.
struct Cache {
    names: BTreeMap<String, String>,
    connection: Connection,
}

impl Cache {
    async fn new(connection: Connection) -> Self {
        let mut cache = Self { names: BTreeMap::new(), connection };
        cache.refresh_all().await;
        cache
    }

    async fn refresh_all(&mut self) {
        let rows = self.connection.query("SELECT id, name FROM item", &[]).await.unwrap();
        let text = |value: Option<&str>| value.unwrap().to_owned();
        self.names = rows.iter().map(|row| (text(row.get(0)), text(row.get(1)))).collect();
    }

    async fn refresh(&mut self, id: &str) {
        let sql = "SELECT name FROM item WHERE id = $1::text::int";
        let rows = self.connection.query(sql, &[Some(id)]).await.unwrap();
        let name = rows.get(0).unwrap().get(0).unwrap().to_owned();
        self.names.insert(id.to_owned(), name);
    }

    fn name(&self, id: &str) -> &str {
        &self.names[id]
    }
}

async fn rename(writer: &mut Connection, id: &str, name: &str) {
    let sql = "WITH renamed AS (UPDATE item SET name = $2 WHERE id = $1::text::int) \
               SELECT pg_notify('item', $1::text)";
    writer.query(sql, &[Some(id), Some(name)]).await.unwrap();
}

async fn next_gap(listener: &mut Listener) -> Gap {
    match tokio::time::timeout(TEST_TIMEOUT, listener.recv())
        .await
        .expect("nothing arrives")
        .unwrap()
    {
        Event::Gap(gap) => gap,
        other => panic!("expected a gap, found {other:?}"),
    }
}

/// G6, D4: a notification names the row that is read again, and a gap means all of them.
#[test]
fn a_cache_reads_one_row_for_a_notification_and_all_rows_after_a_gap() {
    let server = Server::start();
    let cluster = &server.cluster;
    let proxy = Proxy::start(cluster.port()).unwrap();
    run(async {
        let mut writer = server.connection().await;
        let table =
            "CREATE TABLE item AS SELECT i AS id, 'old' AS name FROM generate_series(1, 9) i";
        writer.simple_query(table).await.unwrap();
        let url = proxy.url(cluster.superuser(), cluster.superuser_password(), "postgres");
        let builder = Listener::builder(url).channels(["item"]);
        let builder = builder.backoff(Duration::from_millis(10), Duration::from_millis(50));
        let mut listener = builder.connect().await.unwrap();
        let mut cache = Cache::new(server.connection().await).await;

        writer.simple_query("UPDATE item SET name = 'silent' WHERE id = 2").await.unwrap();
        rename(&mut writer, "1", "new").await;
        let notification: Notification = next(&mut listener).await;
        cache.refresh(notification.payload()).await;
        assert_eq!((cache.name("1"), cache.name("2")), ("new", "old"));

        // Its notification is sent while there is no session.
        tokio::task::block_in_place(|| {
            proxy.handle().refuse().unwrap();
            proxy.handle().cut(Cut::Reset).unwrap();
        });
        until("the loss is noticed", || listener.state() == State::Reconnecting).await;
        rename(&mut writer, "3", "missed").await;
        proxy.handle().accept().unwrap();
        next_gap(&mut listener).await;
        assert_eq!(cache.name("3"), "old");
        cache.refresh_all().await;
        assert_eq!((cache.name("2"), cache.name("3")), ("silent", "missed"));

        rename(&mut writer, "4", "after").await;
        cache.refresh(next(&mut listener).await.payload()).await;
        assert_eq!(cache.name("4"), "after");
        listener.close().await;
    });
}
