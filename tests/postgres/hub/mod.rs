//! The hub: subscriptions, topics, losses.

mod life;
mod random;
mod subscriptions;
mod topics;

use std::time::Duration;

use pgbell::{Event, Hub, HubBuilder, Notification, Subscription};

use crate::support::{Server, TEST_TIMEOUT};

/// A hub that reconnects at once.
async fn hub(server: &Server) -> Hub {
    builder(server).connect().await.unwrap()
}

fn builder(server: &Server) -> HubBuilder {
    Hub::builder(server.url()).backoff(Duration::from_millis(10), Duration::from_millis(100))
}

async fn event(subscription: &mut Subscription) -> Event {
    let event = tokio::time::timeout(TEST_TIMEOUT, subscription.recv()).await;
    event.expect("an event arrives").unwrap()
}

async fn notification(subscription: &mut Subscription) -> Notification {
    match event(subscription).await {
        Event::Notification(notification) => notification,
        loss => panic!("{loss:?}"),
    }
}

/// Receives payloads.
async fn payloads(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    for _ in 0..count {
        found.push(notification(subscription).await.payload().to_owned());
    }
    found
}
