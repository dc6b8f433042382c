//! A cache that is invalidated by notifications. After a loss, everything is invalidated.
//!
//! Ends by itself, with exit code 1 if the cache returned an old value where it must not. It needs no PostgreSQL:
//! `cargo run -p pgbell-demos --bin cache_invalidation`
//!
//! The "database" is a map. In a program with a real one, the `UPDATE` and `SELECT pg_notify('changes', key)` belong to the same
//! transaction, or a trigger sends the notification.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use pgbell::testing::{BackendConfig, Server};
use pgbell::{Event, Hub, Notifier, Subscription};
use tokio::sync::watch;

const CHANNEL: &str = "changes";
const TIMEOUT: Duration = Duration::from_secs(30);

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Clone, Default)]
struct Database(Arc<Mutex<HashMap<String, String>>>);

impl Database {
    fn write(&self, key: &str, value: &str) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.insert(key.to_owned(), value.to_owned());
    }

    fn read(&self, key: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
}

/// The cache of one process.
#[derive(Debug)]
struct Prices {
    database: Database,
    cache: Cache<String, String>,
    /// The number of invalidations.
    invalidations: watch::Sender<u64>,
}

impl Prices {
    fn new(database: Database) -> Arc<Self> {
        Arc::new(Self { database, cache: Cache::new(10_000), invalidations: watch::Sender::new(0) })
    }

    fn get(&self, key: &str) -> Option<String> {
        if let Some(value) = self.cache.get(key) {
            return Some(value);
        }
        let before = *self.invalidations.borrow();
        let value = self.database.read(key)?;
        // The value may have changed after it was read: that invalidation did not find it in the cache. No invalidation runs while the
        // counter is borrowed.
        let now = self.invalidations.borrow();
        if *now == before {
            self.cache.insert(key.to_owned(), value.clone());
        }
        Some(value)
    }

    fn invalidate(&self, key: &str) {
        self.invalidations.send_modify(|count| {
            *count += 1;
            self.cache.invalidate(key);
        });
    }

    fn invalidate_all(&self) {
        self.invalidations.send_modify(|count| {
            *count += 1;
            self.cache.invalidate_all();
        });
    }

    /// Changes a value in this process: the others are notified.
    async fn set(&self, key: &str, value: &str, notifier: &Notifier) -> Result<(), Failure> {
        self.database.write(key, value);
        self.invalidate(key);
        Ok(notifier.notify(CHANNEL, key).await?)
    }

    /// Invalidates until the end of the hub.
    async fn follow(self: Arc<Self>, mut changes: Subscription) {
        while let Ok(event) = changes.recv().await {
            match event {
                Event::Notification(change) => self.invalidate(change.payload()),
                // Any value may have changed.
                loss => {
                    say(&format!("  {loss}"));
                    self.invalidate_all();
                }
            }
        }
        // Nothing reports changes any more.
        self.invalidate_all();
    }

    /// Waits until there were `count` invalidations.
    async fn invalidated(&self, count: u64) -> Result<(), Failure> {
        self.invalidations.subscribe().wait_for(|now| *now >= count).await?;
        Ok(())
    }

    fn expect(&self, key: &str, expected: &str, why: &str) -> Result<(), Failure> {
        let found = self.get(key).unwrap_or_default();
        say(&format!("{key}: {found} ({why})"));
        if found == expected {
            Ok(())
        } else {
            Err(format!("{key} is {found:?}, {expected:?} was expected: {why}").into())
        }
    }
}

#[tokio::main]
#[allow(clippy::print_stderr)]
async fn main() -> ExitCode {
    match tokio::time::timeout(TIMEOUT, run()).await {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => eprintln!("cache_invalidation: {error}"),
        Err(_) => eprintln!("cache_invalidation: not finished within {TIMEOUT:?}"),
    }
    ExitCode::FAILURE
}

async fn run() -> Result<(), Failure> {
    let mut server = Server::start(BackendConfig::new()).await?;
    let database = Database::default();
    database.write("ink", "1.00");
    database.write("paper", "2.00");

    let hub = Hub::builder(server.url())
        .backoff(Duration::from_millis(10), Duration::from_millis(50))
        .await?;
    let notifier = Notifier::connect(server.url()).await?;
    let changes = hub.subscribe(CHANNEL).ignore_notifier(&notifier).await?;
    let prices = Prices::new(database.clone());
    let follower = tokio::spawn(prices.clone().follow(changes));

    prices.expect("ink", "1.00", "from the database")?;
    prices.expect("ink", "1.00", "from the cache")?;

    // Another process, with a notifier of its own.
    let other = Notifier::connect(server.url()).await?;
    database.write("ink", "1.10");
    prices.expect("ink", "1.00", "changed, and not notified yet")?;
    other.notify(CHANNEL, "ink").await?;
    prices.invalidated(1).await?;
    prices.expect("ink", "1.10", "invalidated by a notification")?;

    // A change by this process: one invalidation, its own. The notification that follows marks the place in the stream.
    prices.set("ink", "1.20", &notifier).await?;
    other.notify(CHANNEL, "paper").await?;
    prices.invalidated(3).await?;
    prices.expect("ink", "1.20", "changed by this process")?;
    let count = *prices.invalidations.borrow();
    if count != 3 {
        return Err(
            format!("{count} invalidations, 3 were expected: its own was not ignored").into()
        );
    }

    prices.expect("paper", "2.00", "from the database")?;
    say("the server stops, and the price of paper changes meanwhile");
    server.halt().await;
    database.write("paper", "2.50");
    prices.expect("paper", "2.00", "no notification arrives")?;
    server.resume().await?;
    prices.invalidated(4).await?;
    prices.expect("paper", "2.50", "everything was invalidated after the loss")?;
    prices.expect("ink", "1.20", "everything was invalidated after the loss")?;

    hub.close().await;
    follower.await?;
    Ok(())
}

#[allow(clippy::print_stdout)]
fn say(line: &str) {
    println!("{line}");
}
