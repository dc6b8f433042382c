//! Ends by itself. The program that the guide of pgorm shows for its `PgListener`, with pgbell.
//!
//! `DATABASE_URL=postgres://localhost/shop cargo run --example pgorm_listener`
//!
//! It needs a PostgreSQL server, and creates nothing there.
//!
//! | pgorm | pgbell |
//! |---|---|
//! | `PgListenerConfig::new().queue_capacity(256)` | `Listener::builder(url).queue_capacity(256)` |
//! | `.queue_policy(PgListenerQueuePolicy::DropNewest)` | `.overflow(Overflow::DropNewest)` |
//! | `.reconnect(true)` | `.reconnect(true)`, the default |
//! | `.reconnect_backoff(min, max)` | `.backoff(min, max)` |
//! | `PgListener::connect_with_no_tls_config(&database_url, cfg)` | `.connect()`. TLS follows from `sslmode` in the URL |
//! | `listener.listen("orders_changed")` | the same |
//! | `listener.next()`, `msg.channel`, `msg.payload` | `listener.recv()`, `n.channel()`, `n.payload()` |
//! | notifications that are lost while disconnected: nothing | `Event::Gap`, where they would have been |
//! | notifications that were dropped: a counter | `Event::Lagged` with their number, and a counter |
//! | `listener.state()` | the same |
//! | `stats.reconnect_count`, `stats.dropped_notifications` | `stats.sessions_lost`, `stats.dropped` |
//! | `listener.unlisten("orders_changed")`, `listener.close()` | the same |

use std::time::Duration;

use pgbell::{Event, Listener, Notifier, Overflow};

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), pgbell::Error> {
    let url = std::env::var("DATABASE_URL").unwrap_or_default();
    let mut listener = Listener::builder(&url)
        .queue_capacity(256)
        .overflow(Overflow::DropNewest)
        .reconnect(true)
        .backoff(Duration::from_millis(250), Duration::from_secs(5))
        .connect()
        .await?;
    listener.listen("orders_changed").await?;

    // Another program.
    let notifier = Notifier::connect(&url).await?;
    for order in 1..=3 {
        notifier.notify("orders_changed", order.to_string()).await?;
    }

    for _ in 0..3 {
        match listener.recv().await? {
            Event::Notification(n) => println!("channel={} payload={}", n.channel(), n.payload()),
            loss => println!("read the orders again: {loss}"),
        }
    }
    let stats = listener.stats();
    println!("state={:?}", listener.state());
    println!("sessions_lost={}, dropped={}", stats.sessions_lost, stats.dropped);

    listener.unlisten("orders_changed").await?;
    listener.close().await;
    notifier.close().await;
    Ok(())
}
