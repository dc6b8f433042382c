//! Ends by itself. Effects in the same database happen exactly once: effect and acknowledgement are one transaction, and some of them fail.
//!
//! `DATABASE_URL=postgres://localhost/shop cargo run --example exactly_once --features durable`
//!
//! It needs a PostgreSQL server, and creates tables in a schema of its own, which it drops at the end.
//!
//! With sqlx the transaction is that of the pool:
//!
//! ```text
//! let mut transaction = pool.begin().await?;
//! sqlx::query("UPDATE account SET balance = balance + $1").bind(amount).execute(&mut *transaction).await?;
//! sqlx::query("SELECT pgbell_example.outbox_ack($1)").bind(batch.receipt().to_string()).execute(&mut *transaction).await?;
//! transaction.commit().await?;
//! ```

use pgbell::durable::{Outbox, OutboxSettings, PayloadType};
use pgbell::{Connection, ErrorKind};

const PAYMENTS: usize = 50;

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL").unwrap_or_default();
    let mut connection = Connection::connect(url.as_str()).await?;
    connection
        .simple_query(
            "DROP SCHEMA IF EXISTS pgbell_example CASCADE; \
             CREATE SCHEMA pgbell_example; \
             CREATE TABLE pgbell_example.account (balance bigint NOT NULL); \
             INSERT INTO pgbell_example.account VALUES (0)",
        )
        .await?;
    let outbox = Outbox::new(url.as_str(), "pgbell_example.outbox")?;
    outbox.init(&OutboxSettings::new().payload(PayloadType::Text)).await?;
    for _ in 0..PAYMENTS {
        connection.query(&outbox.insert_sql(), &[Some("account"), Some("10")]).await?;
    }

    let mut cursor = outbox.cursor("account").page_size(5).open().await?;
    let (mut attempts, mut failures) = (0, 0);
    while let Some(batch) = cursor.try_next().await? {
        attempts += 1;
        connection.simple_query("BEGIN").await?;
        for record in batch.iter() {
            let sql = "UPDATE pgbell_example.account SET balance = balance + $1";
            connection.query(sql, &[Some(record.payload())]).await?;
        }
        let receipt = batch.receipt().to_string();
        connection.query(&outbox.ack_sql(), &[Some(&receipt)]).await?;
        // Something else in the transaction fails: the effects and the acknowledgement are undone.
        let fails = attempts % 3 == 0;
        failures += usize::from(fails);
        connection.simple_query(if fails { "ROLLBACK" } else { "COMMIT" }).await?;
        if !fails {
            // As after a COMMIT whose answer did not arrive: it cannot happen twice.
            let twice = batch.ack().await.map_err(|error| error.kind());
            assert_eq!(twice, Err(ErrorKind::Fenced));
        }
    }
    let balance = connection.simple_query("SELECT balance FROM pgbell_example.account").await?;
    let balance = balance.first().and_then(|rows| rows.get(0)?.get(0)).unwrap_or_default();
    println!("{attempts} transactions, {failures} of them failed; balance {balance}");
    cursor.close().await;
    connection.simple_query("DROP SCHEMA pgbell_example CASCADE").await?;
    connection.close().await;
    Ok(())
}
