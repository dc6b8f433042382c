//! Ends by itself. Publishes from many tasks over one connection, on a server inside the program: no PostgreSQL is needed.
//!
//! `cargo run --example notify --features testing`

use std::error::Error;

use pgbell::testing::{BackendConfig, Server};
use pgbell::{Event, Listener, Notifier};

const TASKS: usize = 100;

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start(BackendConfig::new()).await?;
    let mut listener = Listener::builder(server.url()).channels(["orders", "stock"]).await?;
    let notifier = Notifier::connect(server.url()).await?;

    // One notification. It is committed when this returns.
    notifier.notify("orders", "{\"id\": 1}").await?;
    // Several in one transaction: all of them, or none.
    let count = notifier.notify_many([("orders", "2"), ("stock", "3")]).await?;
    println!("{count} in one transaction");

    // Calls of many tasks are sent together. Each has its own answer.
    let calls: Vec<_> = (0..TASKS)
        .map(|task| {
            let notifier = notifier.clone();
            tokio::spawn(async move { notifier.notify("stock", task.to_string()).await })
        })
        .collect();
    for call in calls {
        call.await??;
    }

    // What cannot be sent is refused before it is sent, and the error says what to do.
    let refused = notifier.notify("orders", "x".repeat(8_000)).await;
    if let Err(error) = refused {
        println!("refused: {error}");
    }

    // A signal for work that is in a table: it is not waited for, and each key is sent once.
    for _ in 0..1_000 {
        notifier.nudge("orders", "4");
    }
    notifier.clone().close().await;

    let stats = notifier.stats();
    let (expected, mut received) = (1 + count + TASKS as u64 + stats.nudges_committed, 0);
    while received < expected {
        match listener.recv().await? {
            Event::Notification(_) => received += 1,
            loss => return Err(format!("a notification is missing: {loss}").into()),
        }
    }
    println!("{} calls in {} transactions", stats.calls, stats.transactions);
    println!("{} nudges in {} transactions", stats.nudges, stats.nudge_transactions);
    println!("all of them were received: {}", received == expected);
    Ok(())
}
