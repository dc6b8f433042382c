//! Ends by itself. A page of orders that stays right while its primary fails and a standby is promoted.
//!
//! `cargo run --example live_table --features durable`
//!
//! It starts two temporary PostgreSQL servers, so it needs PostgreSQL to be installed.

use std::time::Duration;

use pgbell::durable::{Mirror, MirrorRow, MirrorSource};
use pgbell::{Connection, Error};
use pgbell_testkit::{Cluster, Mode};

/// What a browser would get after each change.
fn page(orders: &Mirror<String>) -> String {
    let snapshot = orders.snapshot();
    let mut rows: Vec<_> = snapshot.iter().map(|(key, status)| format!("{key} {status}")).collect();
    rows.sort();
    rows.join(", ")
}

async fn run_sql(url: &str, sql: &str) -> Result<(), Error> {
    let mut writer = Connection::connect(url).await?;
    writer.simple_query(sql).await?;
    writer.close().await;
    Ok(())
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let primary = Cluster::builder().start()?;
    let primary_url = primary.url_for_superuser();
    run_sql(&primary_url, "CREATE TABLE orders (id int PRIMARY KEY, status text)").await?;
    run_sql(&primary_url, "INSERT INTO orders VALUES (1, 'new'), (2, 'new'), (3, 'new')").await?;
    let standby = primary.standby()?;
    standby.wait_caught_up(&primary)?;

    // All hosts of the cluster: the one that is the primary is chosen.
    let hosts = format!(
        "host={},{} port={},{} user={} password={} dbname=postgres",
        primary.host(),
        standby.host(),
        primary.port(),
        standby.port(),
        primary.superuser(),
        primary.superuser_password(),
    );
    let orders = Mirror::builder(hosts.as_str(), MirrorSource::table("orders", "id"))
        .channel("orders")
        .backoff(Duration::from_millis(20), Duration::from_millis(500))
        .load(|row: MirrorRow<'_>| row.parse::<String>("status"))
        .await?;
    let mut changes = orders.watch();
    println!("page: {}", page(&orders));

    let ship =
        "BEGIN; UPDATE orders SET status = 'shipped' WHERE id = 1; NOTIFY orders, '1'; COMMIT";
    run_sql(&primary_url, ship).await?;
    changes.changed().await?;
    println!("page: {}", page(&orders));

    // No notification names this row, as if it was lost with the primary.
    run_sql(&primary_url, "DELETE FROM orders WHERE id = 2").await?;
    standby.wait_caught_up(&primary)?;
    primary.stop(Mode::Immediate)?;
    while orders.status().is_current() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("the primary has failed, and the page is not current: {}", page(&orders));

    standby.promote()?;
    changes.changed().await?;
    println!("after the failover: {}", page(&orders));

    let pay = "BEGIN; UPDATE orders SET status = 'paid' WHERE id = 3; NOTIFY orders, '3'; COMMIT";
    run_sql(&standby.url_for_superuser(), pay).await?;
    changes.changed().await?;
    println!("page: {}", page(&orders));
    orders.close().await;
    Ok(())
}
