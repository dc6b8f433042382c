//! Ends by itself. What dorm shows for its `listen`, `notify` and `anotify`, with pgbell.
//!
//! `DATABASE_URL=postgres://localhost/shop cargo run --example scoped_listen --features blocking`
//!
//! It needs a PostgreSQL server, and creates nothing there.
//!
//! | dorm | pgbell |
//! |---|---|
//! | `notify("orders", '{"id": 42}')` | `blocking::Notifier::notify` |
//! | `await anotify("orders", '{"id": 43}')` | `Notifier::notify` |
//! | `notify` inside of `atomic()` | `Connection::notify` between `BEGIN` and `COMMIT` |
//! | `async with listen("orders", "cancellations") as channel` | `listener.scope(["orders", "cancellations"])` |
//! | `async for n in channel`: `n.channel`, `n.pid`, `n.payload` | `scope.recv()`: `n.channel()`, `n.process_id()`, `n.payload()` |
//! | the end of the block: UNLISTEN | the drop of the scope, or `scope.leave()`, which waits for it |
//! | `cache_invalidator()` | example `cache_invalidation`, with a `Hub` |
//! | `feed(ws)`: a connection for each WebSocket | example `live_page`: one connection for all |

use std::error::Error;

use pgbell::{Connection, Event, Listener, Notifier, blocking};

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("DATABASE_URL").unwrap_or_default();
    let mut listener = Listener::connect(&url).await?;
    let mut scope = listener.scope(["orders", "cancellations"]).await?;

    // From a thread without async.
    let for_thread = url.clone();
    let thread = std::thread::spawn(move || {
        let notifier = blocking::Notifier::connect(for_thread)?;
        notifier.notify("orders", "{\"id\": 42}")?;
        notifier.close();
        Ok::<_, pgbell::Error>(())
    });
    tokio::task::spawn_blocking(|| thread.join())
        .await?
        .map_err(|_| "the thread has panicked")??;
    // From a task.
    let notifier = Notifier::connect(&url).await?;
    notifier.notify("orders", "{\"id\": 43}").await?;
    // In a transaction: delivered on COMMIT.
    let mut connection = Connection::connect(&url).await?;
    for end in ["ROLLBACK", "COMMIT"] {
        connection.simple_query("BEGIN").await?;
        connection.notify("cancellations", format!("{{\"end\": \"{end}\"}}")).await?;
        connection.simple_query(end).await?;
    }

    loop {
        match scope.recv().await? {
            Event::Notification(n) => {
                let sender = match Some(n.process_id()) == connection.process_id() {
                    true => "the transaction",
                    false => "a notifier",
                };
                println!("{} (of {sender}): {}", n.channel(), n.payload());
                if n.channel() == "cancellations" {
                    break;
                }
            }
            loss => println!("some are missing: {loss}"),
        }
    }
    // Returns when the server has confirmed UNLISTEN. After a drop, an error or a cancellation it follows on its own.
    scope.leave().await?;
    println!("channels after the scope: {}", listener.handle().channels().await?.len());

    // No channel at all is an error.
    if let Err(error) = listener.scope([""; 0]).await {
        println!("no channel: {error}");
    }
    listener.close().await;
    notifier.close().await;
    connection.close().await;
    Ok(())
}
