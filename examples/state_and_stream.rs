//! Ends by itself. Reads a state, and then follows its changes, without a change that is missed in between.
//!
//! `cargo run --example state_and_stream --features testing`
//!
//! The order matters: first LISTEN, then the query, then the notifications. A change that is committed between LISTEN and the query is in both. So
//! each row has a version, and a notification that is not newer than the state is ignored. The other order, first the query, misses what is
//! committed before LISTEN.

use std::collections::BTreeMap;
use std::error::Error;

use pgbell::Connection;
use pgbell::testing::{Answer, BackendConfig, Server};

const STOCK: &str = "SELECT article, version, pieces FROM stock";

/// The pieces of each article, and the version of its row.
#[derive(Default)]
struct Stock(BTreeMap<String, (u64, u64)>);

impl Stock {
    /// Sets the pieces of an article, unless the version is known. Returns whether it is new.
    fn set(&mut self, article: &str, version: u64, pieces: u64) -> bool {
        let known = self.0.get(article).is_some_and(|(known, _)| *known >= version);
        if !known {
            self.0.insert(article.to_owned(), (version, pieces));
        }
        !known
    }
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start(BackendConfig::new()).await?;
    let row = Answer::rows(["article", "version", "pieces"]).row(["ink", "2", "10"]);
    server.answer(STOCK, row);

    let mut listening = Connection::connect(server.url()).await?;
    listening.listen("stock").await?;
    // Committed between LISTEN and the query: version 2 is in the state, and its notification arrives too.
    server.notify("stock", "ink 2 10")?;

    // With another connection, which can be one of a pool: a query must not delay the notifications.
    let mut reading = Connection::connect(server.url()).await?;
    let mut stock = Stock::default();
    for row in reading.simple_query(STOCK).await?.iter().flat_map(|rows| rows.iter()) {
        let number = |column| row.get(column).and_then(|text: &str| text.parse().ok());
        if let (Some(article), Some(version), Some(pieces)) = (row.get(0), number(1), number(2)) {
            stock.set(article, version, pieces);
            println!("state: {article} has {pieces} pieces in version {version}");
        }
    }
    reading.close().await;

    server.notify("stock", "ink 3 9")?;
    let mut newest = 2;
    while newest < 3 {
        let batch = listening.recv_batch().await?;
        if let Some(loss) = batch.loss() {
            println!("read the state again: {loss}");
        }
        for change in &batch {
            let mut words = change.payload().split(' ');
            let article = words.next().unwrap_or_default();
            let mut number = || words.next()?.parse().ok();
            if let (Some(version), Some(pieces)) = (number(), number()) {
                let is_new = stock.set(article, version, pieces);
                println!("version {version}: {}", if is_new { "new" } else { "known" });
                newest = version;
            }
        }
    }
    listening.close().await;
    server.stop().await;
    Ok(())
}
