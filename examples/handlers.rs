//! Ends by itself. Calls handlers for several channels, on a server inside the program: no PostgreSQL is needed.
//!
//! `cargo run --example handlers --features testing`
//!
//! One handler fails and is tried again, one panics, one gets batches, and one reads again what a lost session has missed.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pgbell::testing::{BackendConfig, Server};
use pgbell::{DispatchLoss, Dispatcher, Failure, Listener, Notification, Notifier, Retry};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A handler can be a function with a name. The order must be a number.
#[allow(clippy::print_stdout)]
async fn store(order: Notification) -> Result<(), std::num::ParseIntError> {
    let number: u32 = order.payload().parse()?;
    println!("orders: {number} is stored");
    Ok(())
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start(BackendConfig::new()).await?;
    let backoff = Duration::from_millis(10);
    let listener = Listener::builder(server.url()).backoff(backoff, backoff).connect().await?;

    let attempts = Arc::new(AtomicU32::new(0));
    let running = Dispatcher::new()
        // Two handlers of one channel: the second one runs after the first.
        .on("orders", store)
        .on("orders", |order: Notification| async move {
            println!("orders: {} is in the log", order.payload());
        })
        // It succeeds in the third attempt.
        .on("mail", move |mail: Notification| {
            let attempt = attempts.fetch_add(1, Ordering::Relaxed) + 1;
            async move {
                println!("mail: attempt {attempt} for {}", mail.payload());
                if attempt < 3 { Err("the mail server is busy") } else { Ok(()) }
            }
        })
        .on("thumbnails", |image: Notification| async move {
            assert!(image.payload().ends_with(".png"), "{} is no image", image.payload());
            println!("thumbnails: {} is done", image.payload());
        })
        .on_batch("stock", 4, |changes: Vec<Notification>| async move {
            let items: Vec<_> = changes.iter().map(Notification::payload).collect();
            println!("stock: {} in one batch", items.join(" "));
        })
        .on_topic("messages", "ann", |message: Notification| async move {
            println!("messages: for ann: {}", message.payload());
        })
        .on_loss(|loss: DispatchLoss| async move { println!("loss: {loss}") })
        .on_failure(|failure: Failure| async move { println!("failure: {failure}") })
        .concurrency(4)
        .retry(Retry::new(3).backoff(Duration::from_millis(20), Duration::from_secs(1)))
        .run(listener)
        .await?;

    let notifier = Notifier::connect(server.url()).await?;
    for (channel, payload) in [
        ("orders", "1"),
        ("orders", "two"),
        ("orders", "3"),
        ("mail", "welcome"),
        ("thumbnails", "cat.png"),
        ("thumbnails", "letter.txt"),
        ("thumbnails", "dog.png"),
        ("messages", "ann:hello"),
        ("messages", "bob:hello"),
    ] {
        notifier.notify(channel, payload).await?;
    }
    let changes = ["ink", "pen", "pad", "cup", "mug", "bag"];
    notifier.notify_many(changes.map(|item| ("stock", item))).await?;

    // The session is lost, and the listener opens another one.
    until(|| running.stats().handled == 14).await?;
    server.terminate_all();
    until(|| running.stats().losses == 1).await?;
    server.notify("orders", "4")?;

    // No notification is lost at the end: all that were committed are handled.
    let stopped = running.drain(TIMEOUT).await;
    let stats = running.stats();
    println!(
        "end: {} handled, {} unhandled, {} retries, {} failures, {} panics, {} without a handler",
        stats.handled,
        stopped.unhandled,
        stats.retries,
        stats.failures,
        stats.panics,
        stats.unclaimed,
    );
    server.stop().await;
    Ok(())
}

/// Waits for a condition.
async fn until(is_so: impl Fn() -> bool) -> Result<(), tokio::time::error::Elapsed> {
    tokio::time::timeout(TIMEOUT, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
}
