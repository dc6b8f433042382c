//! Ends by itself. The program that sqlx shows for its `PgListener`, with pgbell.
//!
//! `DATABASE_URL=postgres://localhost/shop cargo run --example sqlx_listener`
//!
//! It needs a PostgreSQL server, and creates nothing there.
//!
//! | sqlx | pgbell |
//! |---|---|
//! | `PgListener::connect_with(&pool)` | `Listener::connect(url)`: the connection is not one of the pool |
//! | `listener.listen_all(vec!["chan0", "chan1", "chan2"])` | `listener.listen_all(["chan0", "chan1", "chan2"])`: one round trip |
//! | `sqlx::query("select pg_notify(…) from (values …)").bind(…)` | `connection.query(sql, &[…])`, or `Notifier::notify_many` |
//! | `listener.recv().await?`, which reconnects and says nothing | `listener.recv().await?`, with a `Gap` after a reconnect |
//! | `listener.execute("SELECT pg_sleep(6)")` | `listener.simple_query("SELECT pg_sleep(6)")` |
//! | `listener.into_stream()`, `stream.try_next()` | the listener is a `Stream` itself |
//! | the trigger `notify_user_change`, the payload `UserEvent` | chapters `triggers` and `json` of the guide |
//! | graceful shutdown | `listener.drain(timeout)` |

use std::error::Error;
use std::time::Duration;

use futures_util::TryStreamExt;
use pgbell::{Connection, Event, Listener};

/// Three notifications with bound parameters: `{"payload" : N}`.
const NOTIFY: &str = "SELECT pg_notify(chan, json_build_object('payload', payload)::text) \
                      FROM (VALUES ('chan0', $1::bigint), ('chan1', $2::bigint), ('chan2', $3::bigint)) \
                      AS notifies (chan, payload)";

/// Notifies every 100 ms, until it is aborted.
async fn produce(mut connection: Connection) -> Result<(), pgbell::Error> {
    let mut clock = tokio::time::interval(Duration::from_millis(100));
    for number in (0_u64..).step_by(3) {
        clock.tick().await;
        let values = [number, number + 1, number + 2].map(|value| value.to_string());
        let values = values.each_ref().map(|value| Some(value.as_str()));
        connection.query(NOTIFY, &values).await?;
    }
    Ok(())
}

#[allow(clippy::print_stdout)]
fn print(from: &str, event: &Event) {
    match event {
        Event::Notification(n) => println!("[from {from}]: {} {}", n.channel(), n.payload()),
        loss => println!("[from {from}]: some are missing: {loss}"),
    }
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("DATABASE_URL").unwrap_or_default();
    let mut listener = Listener::connect(&url).await?;
    listener.listen_all(["chan0", "chan1", "chan2"]).await?;
    let producer = tokio::spawn(produce(Connection::connect(&url).await?));

    for _ in 0..3 {
        print("recv", &listener.recv().await?);
    }

    // The session runs a query. The server keeps what is sent meanwhile, and sends it after the answer.
    let before = listener.stats().received;
    listener.simple_query("SELECT pg_sleep(1)").await?;
    println!("received during the query: {}", listener.stats().received - before);

    // The listener as a stream, until a deadline.
    let timeout = tokio::time::sleep(Duration::from_millis(500));
    tokio::pin!(timeout);
    loop {
        tokio::select! {
            event = listener.try_next() => match event? {
                Some(event) => print("stream", &event),
                None => break,
            },
            () = &mut timeout => break,
        }
    }
    producer.abort();

    // No LISTEN any more; what was committed before is delivered; then the end.
    listener.drain(Duration::from_secs(5)).await?;
    let mut drained = 0;
    while let Some(event) = listener.try_next().await? {
        drained += u64::from(matches!(event, Event::Notification(_)));
    }
    let stats = listener.stats();
    println!("drained: {drained}, not delivered: {}", stats.received - stats.delivered);
    Ok(())
}
