//! Ends by itself. Sends and receives values of its own types as JSON, on a server inside the program: no PostgreSQL is needed.
//!
//! `cargo run --example json --features json,testing`
//!
//! One payload has another shape, one is lost in the queue, and one hub finds the topics in a field of the payloads.

use std::error::Error;
use std::time::Duration;

use pgbell::testing::{BackendConfig, Server};
use pgbell::{Hub, JsonEvent, Notifier, TopicOf};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct UserEvent {
    user_id: i64,
    action: String,
}

/// Borrows from the notification.
#[derive(Deserialize)]
struct Action<'a> {
    action: &'a str,
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start(BackendConfig::new()).await?;
    let hub = Hub::builder(server.url()).topic_of(TopicOf::json_field("user_id")).connect().await?;
    let mut all = hub.subscribe("user_updates").queue_capacity(4).await?.json::<UserEvent>();
    let mut of_42 = hub.subscribe_topic("user_updates", "42").await?;

    let notifier = Notifier::connect(server.url()).await?;
    for (user_id, action) in [(41, "login"), (42, "login")] {
        let event = UserEvent { user_id, action: action.to_owned() };
        notifier.notify_json("user_updates", &event).await?;
    }
    // What other programs and psql send.
    notifier.notify("user_updates", r#"{"user_id": "42", "action": "logout"}"#).await?;
    notifier.notify("user_updates", "hello").await?;
    let event = UserEvent { user_id: 41, action: "logout".to_owned() };
    notifier.notify_json("user_updates", &event).await?;

    // Everything that was committed is received. Of the five, the queue of the first subscription keeps four.
    hub.drain(Duration::from_secs(10)).await?;
    // Until the end: both subscriptions have ended with the hub.
    while let Ok(event) = all.recv().await {
        match event {
            JsonEvent::Value(event, _) => println!("user {}: {}", event.user_id, event.action),
            JsonEvent::Invalid(error) => println!("invalid: {error}"),
            loss => println!("loss: {loss}"),
        }
    }
    while let Ok(event) = of_42.recv().await {
        if let Some(notification) = event.notification() {
            let Action { action } = notification.json()?;
            println!("of 42: {action}");
        }
    }
    notifier.close().await;
    server.stop().await;
    Ok(())
}
