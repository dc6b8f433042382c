//! Ends by itself. Two services read a log, and one of them is killed in the middle: nothing is missed.
//!
//! `DATABASE_URL=postgres://localhost/shop cargo run --example outbox --features durable`
//!
//! It needs a PostgreSQL server, and creates a log in a schema of its own, which it drops at the end.

use std::collections::BTreeSet;
use std::time::Duration;

use pgbell::durable::{Outbox, OutboxSettings};
use pgbell::{Connection, Error, Notifier};

const ORDERS: usize = 200;

/// Writes orders in transactions that are open for different times, so they commit in another order than that of their ids.
async fn write(outbox: Outbox, url: String, first: usize) -> Result<(), Error> {
    let mut connection = Connection::connect(url.as_str()).await?;
    let notifier = Notifier::connect(url.as_str()).await?;
    for order in (first..ORDERS).step_by(4) {
        connection.simple_query("BEGIN").await?;
        let (key, payload) = (format!("order {order}"), format!("{{\"order\": {order}}}"));
        connection.query(&outbox.insert_sql(), &[Some(&key), Some(&payload)]).await?;
        tokio::time::sleep(Duration::from_millis(u64::try_from(order % 7).unwrap_or(0))).await;
        connection.simple_query("COMMIT").await?;
        notifier.nudge(outbox.channel(), "");
    }
    notifier.close().await;
    connection.close().await;
    Ok(())
}

/// Handles orders until all were seen. `limit`: is killed after this number, before it acknowledges them.
#[allow(clippy::print_stdout)]
async fn serve(
    outbox: &Outbox,
    name: &'static str,
    seen: &mut BTreeSet<String>,
    limit: Option<usize>,
) -> Result<(), Error> {
    // After a reader was killed, its lease must pass first.
    let mut cursor = outbox
        .cursor(name)
        .page_size(20)
        .interval(Duration::from_millis(500))
        .lease(Duration::from_millis(1_500))
        .open()
        .await?;
    let mut again = 0;
    while seen.len() < ORDERS {
        let batch = cursor.next().await?;
        for record in batch.iter() {
            again += usize::from(!seen.insert(record.key().to_owned()));
        }
        if limit.is_some_and(|limit| seen.len() >= limit) {
            println!("{name}: killed after {} orders, before the acknowledgement", seen.len());
            return Ok(());
        }
        batch.ack().await?;
    }
    println!("{name}: all {ORDERS} orders, {again} of them twice");
    cursor.close().await;
    Ok(())
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL").unwrap_or_default();
    let mut admin = Connection::connect(url.as_str()).await?;
    let schema = "DROP SCHEMA IF EXISTS pgbell_example CASCADE; CREATE SCHEMA pgbell_example";
    admin.simple_query(schema).await?;
    let outbox = Outbox::new(url.as_str(), "pgbell_example.outbox")?;
    outbox.init(&OutboxSettings::new()).await?;

    let writers: Vec<_> =
        (0..4).map(|first| tokio::spawn(write(outbox.clone(), url.clone(), first))).collect();
    let billing = tokio::spawn({
        let outbox = outbox.clone();
        async move {
            let mut seen = BTreeSet::new();
            serve(&outbox, "billing", &mut seen, None).await
        }
    });
    let mut seen = BTreeSet::new();
    serve(&outbox, "mail", &mut seen, Some(ORDERS / 2)).await?;
    serve(&outbox, "mail", &mut seen, None).await?;
    billing.await??;
    for writer in writers {
        writer.await??;
    }
    let status = outbox.status().await?;
    for cursor in &status.cursors {
        println!("{}: {} behind", cursor.name, cursor.lag);
    }
    admin.simple_query("DROP SCHEMA pgbell_example CASCADE").await?;
    admin.close().await;
    Ok(())
}
