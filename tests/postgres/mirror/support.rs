//! A server with a table of orders, and mirrors of it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgbell::durable::{Mirror, MirrorBuilder, MirrorKeyWatch, MirrorRow, MirrorSource};
use pgbell::{Connection, Error, Listen};
use tokio::time::{sleep, timeout};

use crate::support::{Server, TEST_TIMEOUT};

/// An interval that does not pass in a test.
pub(crate) const NEVER: Duration = Duration::from_secs(3_600);

/// A server with the table `orders`: 1 is new, 2 is new, 3 is paid.
pub(crate) struct Shop {
    pub(crate) server: Server,
    pub(crate) session: Connection,
}

impl Shop {
    pub(crate) async fn new(server: Server) -> Self {
        let mut session = server.connection().await;
        let create = "CREATE TABLE orders (id int PRIMARY KEY, status text, note text); \
            INSERT INTO orders VALUES (1, 'new'), (2, 'new'), (3, 'paid')";
        session.simple_query(create).await.unwrap();
        Self { server, session }
    }

    pub(crate) async fn sql(&mut self, text: &str) {
        self.session.simple_query(text).await.unwrap();
    }

    /// Changes an order and names it, in one transaction.
    pub(crate) async fn change(&mut self, key: i32, status: &str) {
        let text = format!(
            "BEGIN; UPDATE orders SET status = '{status}' WHERE id = {key}; NOTIFY orders, '{key}'; COMMIT"
        );
        self.sql(&text).await;
    }

    /// A builder of a mirror that only notifications wake, and that connects again at once.
    pub(crate) fn builder(&self, source: MirrorSource) -> MirrorBuilder {
        Mirror::builder(self.server.url().as_str(), source)
            .channel("orders")
            .listen(Listen::Enabled)
            .interval(NEVER)
            .backoff(Duration::from_millis(10), Duration::from_millis(100))
    }

    pub(crate) fn orders(&self) -> MirrorBuilder {
        self.builder(MirrorSource::table("orders", "id"))
    }

    /// A mirror of the status of each order.
    pub(crate) async fn mirror(&self) -> Mirror<String> {
        self.orders().load(status).await.unwrap()
    }

    /// Ends the sessions of all mirrors.
    pub(crate) async fn kill_all(&mut self) {
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        self.sql(kill).await;
    }

    /// Returns the number of sessions beside that of the test.
    pub(crate) async fn sessions(&mut self) -> usize {
        let count = "SELECT 1 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        self.session.simple_query(count).await.unwrap()[0].len()
    }
}

pub(crate) fn status(row: MirrorRow<'_>) -> Result<String, Error> {
    row.parse("status")
}

/// Returns the content, sorted.
pub(crate) fn content<V: Clone + Ord>(mirror: &Mirror<V>) -> BTreeMap<String, V> {
    let snapshot = mirror.snapshot();
    let rows: BTreeMap<_, _> =
        snapshot.iter().map(|(key, value)| (key.to_owned(), V::clone(value))).collect();
    assert_eq!(rows.len(), snapshot.len());
    rows
}

/// Returns the next value of a watched key.
pub(crate) async fn changed<V>(watch: &mut MirrorKeyWatch<V>) -> Option<Arc<V>> {
    timeout(TEST_TIMEOUT, watch.changed()).await.expect("nothing changes").unwrap()
}

/// Waits until a key has a value.
pub(crate) async fn until_is<V: PartialEq + Debug>(
    mirror: &Mirror<V>,
    key: &str,
    value: Option<V>,
) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while mirror.get(key).as_deref() != value.as_ref() {
        let error = mirror.last_error();
        assert!(Instant::now() < deadline, "{key} is not {value:?}: {mirror:?}, {error:?}");
        sleep(Duration::from_millis(1)).await;
    }
}
