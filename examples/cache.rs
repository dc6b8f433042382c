//! Ends by itself. A cache of prices that is never older than its notifications, and is not used while they do not arrive.
//!
//! `DATABASE_URL=postgres://localhost/shop cargo run --example cache --features durable`
//!
//! It needs a PostgreSQL server, and creates a table in a schema of its own, which it drops at the end.

use pgbell::durable::{Mirror, MirrorRow, MirrorSource};
use pgbell::{Connection, Error};

/// Prices of the products that are asked for most. The others are read from the table.
struct Prices {
    cache: Mirror<i64>,
    database: Connection,
    hits: u32,
    misses: u32,
}

impl Prices {
    async fn get(&mut self, product: &str) -> Result<Option<i64>, Error> {
        // Without notifications the cache may be old: after a lost session, and until all rows are read again.
        if self.cache.status().is_current()
            && let Some(price) = self.cache.get(product)
        {
            self.hits += 1;
            return Ok(Some(*price));
        }
        self.misses += 1;
        let sql = "SELECT price FROM pgbell_cache.products WHERE id = $1";
        let rows = self.database.query(sql, &[Some(product)]).await?;
        Ok(rows.get(0).and_then(|row| row.get(0)?.parse().ok()))
    }
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL").unwrap_or_default();
    let mut admin = Connection::connect(url.as_str()).await?;
    // The trigger names each row that changes, so no writer can forget it.
    let schema = "DROP SCHEMA IF EXISTS pgbell_cache CASCADE; CREATE SCHEMA pgbell_cache;
        CREATE TABLE pgbell_cache.products (id text PRIMARY KEY, price bigint NOT NULL, is_popular bool NOT NULL);
        CREATE FUNCTION pgbell_cache.notify() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP <> 'INSERT' THEN PERFORM pg_notify('pgbell_cache', old.id); END IF;
            IF TG_OP <> 'DELETE' THEN PERFORM pg_notify('pgbell_cache', new.id); END IF;
            RETURN NULL;
        END $$;
        CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON pgbell_cache.products
            FOR EACH ROW EXECUTE FUNCTION pgbell_cache.notify();
        INSERT INTO pgbell_cache.products VALUES ('ink', 500, true), ('pen', 900, true), ('globe', 7000, false)";
    admin.simple_query(schema).await?;

    let popular =
        MirrorSource::query("SELECT id, price FROM pgbell_cache.products WHERE is_popular", "id");
    let cache = Mirror::builder(url.as_str(), popular)
        .channel("pgbell_cache")
        .load(|row: MirrorRow<'_>| row.parse::<i64>("price"))
        .await?;
    let mut ink = cache.watch_key("ink");
    let database = Connection::connect(url.as_str()).await?;
    let mut prices = Prices { cache, database, hits: 0, misses: 0 };

    for product in ["ink", "pen", "ink", "globe"] {
        println!("{product}: {:?}", prices.get(product).await?);
    }
    println!("{} hits, {} misses", prices.hits, prices.misses);

    admin.simple_query("UPDATE pgbell_cache.products SET price = 550 WHERE id = 'ink'").await?;
    println!("ink changes to {:?}", ink.changed().await?);
    // A row that does not belong to the query any more leaves the cache, and is read from the table.
    admin
        .simple_query("UPDATE pgbell_cache.products SET is_popular = false WHERE id = 'ink'")
        .await?;
    println!("ink is popular no more, the cache has {:?}", ink.changed().await?);
    println!("ink in the table: {:?}", prices.get("ink").await?);

    // What the process has committed itself is read without waiting for its notification.
    admin.simple_query("UPDATE pgbell_cache.products SET price = 950 WHERE id = 'pen'").await?;
    prices.cache.refresh(["pen"]).await?;
    println!("pen: {:?}", prices.cache.get("pen"));

    prices.cache.close().await;
    prices.database.close().await;
    admin.simple_query("DROP SCHEMA pgbell_cache CASCADE").await?;
    admin.close().await;
    Ok(())
}
