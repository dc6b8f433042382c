//! [`Mirror`]: a table or a query in memory that stays right.
//!
//! ```text
//! notification, nudge, loss, interval ─▶ Wakeups ─▶ Machine ─▶ Task ─▶ Reader: the rows of the keys, or all rows
//!                                                               │                          │
//!                              get, snapshot, watch ◀─ Store ◀──┴─ Reads: decoded, compared ◀─┘
//! ```
//! Reads are in one session, one after the other, so a row that was read later is never replaced by one that was read before.

mod builder;
mod draft;
mod machine;
mod pace;
mod polls;
mod race;
mod reader;
mod reads;
mod refusal;
mod row;
mod rules;
mod shared;
mod snapshot;
mod source;
mod stats;
mod status;
mod store;
mod task;
mod telemetry;
#[cfg(test)]
mod tests;
mod waiter;
mod watch;

use std::fmt;
use std::sync::Arc;

pub use self::builder::MirrorBuilder;
pub use self::row::MirrorRow;
use self::shared::Shared;
pub use self::snapshot::MirrorSnapshot;
pub use self::source::MirrorSource;
pub use self::stats::MirrorStats;
pub use self::status::MirrorStatus;
pub use self::watch::{MirrorKeyWatch, MirrorWatch};
use crate::config::Config;
use crate::error::Error;
use crate::notifier::Notifier;

/// The rows of a table or a query in memory, which follow the database: a cache that is invalidated by notifications, and right again after each loss.
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// use pgbell::durable::{Mirror, MirrorRow, MirrorSource};
///
/// let source = MirrorSource::table("orders", "id").columns(["id", "status"]);
/// let orders = Mirror::builder("postgres://localhost/shop", source)
///     .channel("orders_channel")
///     .load(|row: MirrorRow<'_>| row.parse::<String>("status"))
///     .await?;
///
/// // A writer: BEGIN; UPDATE orders SET status = 'shipped' WHERE id = 456; NOTIFY orders_channel, '456'; COMMIT
/// let mut order = orders.watch_key("456");
/// println!("456 is {:?}", order.changed().await?);
/// println!("{} orders, 7 is {:?}", orders.len(), orders.get("7"));
/// # Ok(())
/// # }
/// ```
///
/// - A notification names a row by its key: this row is read again, and vanishes from the mirror if it is not in the result any more. Keys that arrive while a
///   read runs are one next read. The trigger [`notify_key`](crate::guide::triggers#notify_keysql) of the guide sends them, or the writer, or a
///   [nudge](Notifier::nudge).
/// - All rows are read by [`load`](MirrorBuilder::load), after each loss of the listening session and of the session that reads, after more than 1,024 keys
///   at once, after a notification without a key, and at the [interval](MirrorBuilder::interval). They are read in one snapshot, and replace the old ones at
///   once. Between two loads there is a [pause](MirrorBuilder::load_pause), except after a loss.
/// - [`get`](Self::get) never waits for the server. It returns what was committed a moment ago, or, while reads fail, what was read last:
///   [`status`](Self::status) says since when. A failed read is repeated, with a growing delay, whatever its error is: also a table that was dropped may be
///   there again. Only [`close`](Self::close) and the drop end a mirror.
///
/// # Keys
/// A key is the text of the key column, as the server writes it. A payload may be another text of the same value, such as `07` for the integer 7 or a UUID in
/// upper case. A change of the key itself concerns two rows, so both keys must be named: the new one and the old one, which vanishes. Another limit: in types in which different texts are equal and stored as they are (`citext`, `char(n)`, `numeric`, texts with a nondeterministic
/// collation), the deletion of a row is found by a payload that is exactly its text, or else by the next load.
///
/// # Memory
/// Each row takes its key, its value, and about 80 bytes. A load has a second table of them, but shares the values of rows that have not changed, and at most
/// two results of [`Config::result_limit_bytes`](crate::Config::result_limit_bytes), normally of 4 MiB: one arrives while the other is decoded. The number of rows is
/// [limited](MirrorBuilder::max_rows), their size is not. A watched key takes about 200 bytes.
///
/// # Limits
/// A row counts as changed if the text of one of its columns is another one. That is compared by a keyed hash of 128 bits.
///
/// Dropping the mirror ends its sessions in the background. [`close`](Self::close) waits for that. To share it between tasks, put it into an
/// [`Arc`](std::sync::Arc).
pub struct Mirror<V> {
    shared: Arc<Shared<V>>,
}

impl Mirror<()> {
    /// Returns a builder.
    ///
    /// `config` is a URL, a `key=value` string or a [`Config`]. Parameters that it does not set are taken from the `PG*`
    /// environment variables.
    pub fn builder(
        config: impl TryInto<Config, Error: Into<Error>>,
        source: MirrorSource,
    ) -> MirrorBuilder {
        MirrorBuilder::new(config.try_into().map_err(Into::into), source)
    }
}

impl<V> Mirror<V> {
    fn new(shared: Arc<Shared<V>>) -> Self {
        Self { shared }
    }

    // ---- the content ----

    /// Returns the value of the row with this key. `None` if there is none, or if it was not decoded.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Arc<V>> {
        self.shared.store.get(key)
    }

    /// Returns the number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.store.counts().0
    }

    /// Returns true if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns all values with their keys, of one version. It takes time in proportion to their number, during which no read can be shown.
    #[must_use]
    pub fn snapshot(&self) -> MirrorSnapshot<V> {
        MirrorSnapshot::new(self.shared.store.values())
    }

    /// Returns the version: each read that has found a change makes the next one. That of the first load is 1, or 0 if there was no row.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.shared.store.counts().2
    }

    // ---- changes ----

    /// Returns a watch of the whole mirror.
    #[must_use]
    pub fn watch(&self) -> MirrorWatch<V> {
        MirrorWatch::new(self.shared.clone())
    }

    /// Returns a watch of the row with this key, which need not exist.
    #[must_use]
    pub fn watch_key(&self, key: &str) -> MirrorKeyWatch<V> {
        MirrorKeyWatch::new(self.shared.clone(), key)
    }

    // ---- reads ----

    /// Reads the rows of these keys again, and returns when that is done: what was committed before the call is in the mirror then.
    ///
    /// Calls that are made while a read runs are one next read. More than 1,024 keys are a [`reload`](Self::reload).
    ///
    /// # Errors
    /// The error of the read. It is repeated in the background; the mirror keeps what it has until then. [`ErrorKind::Closed`](crate::ErrorKind::Closed)
    /// after the end of the mirror. A key that the type of the key column does not have is no error: the call returns after a load, which is begun within a second
    /// and the [pause](MirrorBuilder::load_pause).
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the request.
    pub async fn refresh(
        &self,
        keys: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<(), Error> {
        self.shared.read(Some(keys.into_iter().map(Into::into).collect())).await
    }

    /// Reads all rows again, and returns when that is done.
    ///
    /// # Errors
    /// As [`refresh`](Self::refresh).
    ///
    /// # Cancel safety
    /// As [`refresh`](Self::refresh).
    pub async fn reload(&self) -> Result<(), Error> {
        self.shared.read(None).await
    }

    /// Wakes the mirror by the [nudges](Notifier::nudge) of this notifier at once, without the server: see
    /// [`Wakeups::attach`](crate::Wakeups::attach). A mirror that is [woken by a worker](MirrorBuilder::woken_by) of the user has the nudges of its
    /// wake-ups, and this does nothing.
    pub fn attach(&self, notifier: &Notifier) {
        if let Some(wakeups) = self.shared.wakeups() {
            wakeups.attach(notifier);
        }
    }

    // ---- observing ----

    /// Returns whether the mirror is right at the moment, as far as that is known, and since when not.
    #[must_use]
    pub fn status(&self) -> MirrorStatus {
        self.shared.status()
    }

    /// Returns the last error of a read, also if it was repeated and succeeded then, or of a row that was not decoded.
    #[must_use]
    pub fn last_error(&self) -> Option<Error> {
        self.shared.facts().last_error.clone()
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> MirrorStats {
        self.shared.facts().stats
    }

    /// Ends the sessions with Terminate. The content stays as it is.
    ///
    /// A statement that runs is given up. This takes at most a second for the session of the reads, and what
    /// [`Wakeups::close`](crate::Wakeups::close) takes.
    ///
    /// # Cancel safety
    /// The mirror closes even if the future is dropped.
    pub async fn close(&self) {
        self.shared.close();
        self.shared.ended().await;
    }
}

impl<V> Drop for Mirror<V> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// Shows numbers, because rows are data of the application.
impl<V> fmt::Debug for Mirror<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirror")
            .field("name", &self.shared.name)
            .field("len", &self.len())
            .field("status", &self.status())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
