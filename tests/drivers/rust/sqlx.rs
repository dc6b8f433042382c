//! A listener with a connection of its own, and a pool.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{Connection, Executor, Row};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let url = std::env::var("DATABASE_URL").unwrap();
    let mut listener = PgListener::connect(&url).await.unwrap();
    listener.listen("orders").await.unwrap();
    let pool = PgPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
    pool.execute("NOTIFY orders, 'plain'").await.unwrap();
    pool.execute("NOTIFY orders, $$it's$$").await.unwrap();
    let notify = sqlx::query("SELECT pg_notify($1, $2)").bind("orders").bind("bound é");
    notify.execute(&pool).await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    transaction.execute("NOTIFY orders, 'rolled back'").await.unwrap();
    transaction.rollback().await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    transaction.execute("NOTIFY orders, 'committed'").await.unwrap();
    transaction.commit().await.unwrap();
    for expected in ["plain", "it's", "bound é", "committed"] {
        let one = tokio::time::timeout(Duration::from_secs(10), listener.recv()).await.unwrap();
        assert_eq!(one.unwrap().payload_bytes(), expected);
    }
    let refused = |error: sqlx::Error| {
        assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("0A000"));
    };
    refused(pool.execute("CREATE TABLE stock (id int)").await.unwrap_err());
    let missing = sqlx::query("SELECT id FROM missing WHERE id = $1").bind(7);
    refused(missing.execute(&pool).await.unwrap_err());
    let stock = sqlx::query("SELECT id, name FROM stock WHERE id = $1").bind(7);
    let row = stock.fetch_one(&pool).await.unwrap();
    assert_eq!((row.get::<i32, _>(0), row.get::<&str, _>(1)), (7, "ink"));
    let one: i32 = sqlx::query_scalar("SELECT 1").fetch_one(&pool).await.unwrap();
    assert_eq!(one, 1);
    pool.acquire().await.unwrap().ping().await.unwrap();
    pool.close().await;
}
