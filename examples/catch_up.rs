//! Ends by itself. A cache that is complete after every loss: a hook reads the state again before anything is delivered.
//!
//! `cargo run --example catch_up --features testing`
//!
//! PostgreSQL keeps no notification for a session that has ended. So the order that is inserted while the server restarts is not notified
//! to the next session. The hook finds it in the table.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex};

use pgbell::testing::{Answer, BackendConfig, Server};
use pgbell::{Connection, Event, Listener, Live};

const ORDERS: &str = "SELECT id, status FROM orders";

#[derive(Clone, Default)]
struct Cache(Arc<Mutex<BTreeMap<String, String>>>);

impl Cache {
    /// Replaces the whole content.
    async fn read(self, mut connection: Connection) -> Result<(), pgbell::Error> {
        let results = connection.simple_query(ORDERS).await?;
        let rows = results.iter().flat_map(|rows| rows.iter());
        let rows = rows.filter_map(|row| Some((row.get(0)?.to_owned(), row.get(1)?.to_owned())));
        *self.0.lock().unwrap() = rows.collect();
        connection.close().await;
        Ok(())
    }

    /// Applies a notification: `7=paid`.
    fn apply(&self, payload: &str) {
        if let Some((id, status)) = payload.split_once('=') {
            self.0.lock().unwrap().insert(id.to_owned(), status.to_owned());
        }
    }

    fn text(&self) -> String {
        let orders = self.0.lock().unwrap();
        orders.iter().map(|(id, status)| format!(" {id}={status}")).collect()
    }
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut server = Server::start(BackendConfig::new()).await?;
    let rows = Answer::rows(["id", "status"]).row(["1", "new"]);
    server.answer(ORDERS, rows.clone());

    let cache = Cache::default();
    let of_hook = cache.clone();
    let mut listener = Listener::builder(server.url())
        .channels(["orders"])
        .on_live(move |connection, live| {
            if let Live::AfterGap(_) = live {
                println!("the orders are read again");
            }
            of_hook.clone().read(connection)
        })
        .connect()
        .await?;
    println!("at the start:{}", cache.text());

    server.notify("orders", "1=paid")?;
    receive(&mut listener, &cache).await?;

    // Order 2 is inserted while there is no session, and its notification reaches no listener.
    server.halt().await;
    server.answer(ORDERS, Answer::rows(["id", "status"]).row(["1", "paid"]).row(["2", "new"]));
    assert_eq!(server.notify("orders", "2=new")?, 0);
    server.resume().await?;
    receive(&mut listener, &cache).await?;

    server.notify("orders", "2=paid")?;
    receive(&mut listener, &cache).await?;
    listener.close().await;
    server.stop().await;
    Ok(())
}

/// Handles one event. The hook has run before a gap is delivered, so the cache is complete then.
#[allow(clippy::print_stdout)]
async fn receive(listener: &mut Listener, cache: &Cache) -> Result<(), pgbell::Error> {
    match listener.recv().await? {
        Event::Notification(order) => {
            cache.apply(order.payload());
            println!("after {}:{}", order.payload(), cache.text());
        }
        Event::Gap(_) => println!("after the gap:{}", cache.text()),
        // The queue was full. No hook has run: read the state here.
        loss => println!("read the orders again: {loss}"),
    }
    Ok(())
}
