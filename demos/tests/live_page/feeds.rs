//! The feeds, without sockets to the browsers.

use std::time::Duration;

use pgbell::Hub;
use pgbell::testing::{BackendConfig, Server};
use pgbell_demos::live_page::{CHANNEL, Feed, LivePage, Message, Refusal};

use crate::send;

const TIMEOUT: Duration = Duration::from_secs(30);

struct World {
    database: Server,
    hub: Hub,
    page: LivePage,
}

impl World {
    async fn start() -> Self {
        let database = Server::start(BackendConfig::new()).await.unwrap();
        let hub = Hub::connect(database.url()).await.unwrap();
        let page = LivePage::new(hub.handle());
        Self { database, hub, page }
    }
}

async fn next(feed: &mut Feed) -> (String, Message) {
    let next = tokio::time::timeout(TIMEOUT, feed.next()).await.expect("a message in time");
    next.map(|numbered| (numbered.id, numbered.message)).expect("a message")
}

/// Returns the next message that is no state of the database.
async fn next_message(feed: &mut Feed) -> (String, Message) {
    loop {
        let (id, message) = next(feed).await;
        if !matches!(message, Message::Database { .. }) {
            return (id, message);
        }
    }
}

fn text(text: &str) -> Message {
    Message::Message { text: text.to_owned() }
}

/// Opens a feed, receives one message, and disconnects. Returns the last id.
async fn seen(world: &World) -> String {
    let mut feed = world.page.open("ink", None).await.unwrap();
    assert_eq!(next_message(&mut feed).await.1, Message::Ready { continued: false });
    send(&world.database, "ink", "seen");
    let (id, message) = next_message(&mut feed).await;
    assert_eq!(message, text("seen"));
    id
}

#[tokio::test]
async fn a_reconnect_with_the_last_id_continues_and_loses_nothing() {
    let world = World::start().await;
    let id = seen(&world).await;
    send(&world.database, "ink", "while it was away");
    let mut feed = world.page.open("ink", Some(&id)).await.unwrap();
    assert_eq!(next_message(&mut feed).await.1, Message::Ready { continued: true });
    assert_eq!(next_message(&mut feed).await.1, text("while it was away"));
}

#[tokio::test]
async fn a_loss_while_the_browser_is_away_is_sent_as_reload() {
    let world = World::start().await;
    let id = seen(&world).await;
    world.database.terminate_all();
    let mut feed = world.page.open("ink", Some(&id)).await.unwrap();
    assert_eq!(next_message(&mut feed).await.1, Message::Ready { continued: true });
    assert!(matches!(next_message(&mut feed).await.1, Message::Reload { .. }));
    send(&world.database, "ink", "after the loss");
    assert_eq!(next_message(&mut feed).await.1, text("after the loss"));
}

#[tokio::test]
async fn a_browser_that_has_not_received_the_last_message_must_reload() {
    let world = World::start().await;
    let mut feed = world.page.open("ink", None).await.unwrap();
    let (id, _) = next(&mut feed).await;
    next(&mut feed).await;
    drop(feed);
    let mut feed = world.page.open("ink", Some(&id)).await.unwrap();
    assert_eq!(next_message(&mut feed).await.1, Message::Ready { continued: false });
    assert!(matches!(next_message(&mut feed).await.1, Message::Reload { .. }));
}

#[tokio::test]
async fn an_id_of_another_room_continues_nothing() {
    let world = World::start().await;
    let id = seen(&world).await;
    let mut feed = world.page.open("paper", Some(&id)).await.unwrap();
    assert_eq!(next_message(&mut feed).await.1, Message::Ready { continued: false });
    assert!(matches!(next_message(&mut feed).await.1, Message::Reload { .. }));
}

#[tokio::test]
async fn a_slow_browser_loses_only_its_own_messages() {
    let world = World::start().await;
    let mut slow = world.page.open("ink", None).await.unwrap();
    let mut fast = world.page.open("ink", None).await.unwrap();
    assert_eq!(next_message(&mut fast).await.1, Message::Ready { continued: false });
    for number in 0..200 {
        send(&world.database, "ink", &number.to_string());
        assert_eq!(next_message(&mut fast).await.1, text(&number.to_string()));
    }
    assert_eq!(next_message(&mut slow).await.1, Message::Ready { continued: false });
    for number in 0..64 {
        assert_eq!(next_message(&mut slow).await.1, text(&number.to_string()));
    }
    let (_, Message::Reload { reason }) = next_message(&mut slow).await else { panic!("no loss") };
    assert!(reason.ends_with("notifications were dropped: the queue was full"), "{reason}");
}

#[tokio::test]
async fn many_browsers_that_have_gone_leave_at_most_a_thousand_subscriptions() {
    let world = World::start().await;
    for _ in 0..1_100 {
        drop(world.page.open("ink", None).await.unwrap());
    }
    assert_eq!(world.hub.stats().subscriptions, 1_000);
    let channels = world.hub.handle().channels().await.unwrap();
    assert_eq!(channels.len(), 1, "{channels:?}");
    assert_eq!(channels[0].0, CHANNEL);
}

#[tokio::test]
async fn a_subscription_whose_browser_stays_away_is_dropped_in_time_without_another_request() {
    let world = World::start().await;
    drop(world.page.open("ink", None).await.unwrap());
    assert_eq!(world.hub.stats().subscriptions, 1);
    tokio::time::pause();
    // It is still there, for a browser that is back.
    pass(Duration::from_secs(25)).await;
    assert_eq!(world.hub.stats().subscriptions, 1);
    // At most for 30 seconds, and the interval of the task that drops it.
    pass(Duration::from_secs(11)).await;
    assert_eq!(world.hub.stats().subscriptions, 0);
}

/// Lets the time pass in steps of a second. The tasks run after each one.
async fn pass(time: Duration) {
    for _ in 0..time.as_secs() {
        tokio::time::advance(Duration::from_secs(1)).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn the_end_of_the_hub_ends_a_feed_and_refuses_others() {
    let World { database: _database, hub, page } = World::start().await;
    let mut feed = page.open("ink", None).await.unwrap();
    assert_eq!(next_message(&mut feed).await.1, Message::Ready { continued: false });
    hub.close().await;
    assert!(matches!(next_message(&mut feed).await.1, Message::Goodbye { .. }));
    assert_eq!(feed.next().await, None);
    assert!(matches!(page.open("ink", None).await, Err(Refusal::Closed)));
}
