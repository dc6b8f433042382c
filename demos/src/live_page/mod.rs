//! One page for any number of browsers, and one connection to the database for all of them.
//!
//! ```text
//! browser ◀── server-sent events or WebSocket ◀── Feed ◀── Subscription (room = topic) ┐
//! browser ◀── server-sent events or WebSocket ◀── Feed ◀── Subscription (room = topic) ┴─ Hub ◀── database
//! ```
//! A browser that reads slowly fills the queue of its own subscription, and loses only its own messages.

mod feed;
mod kept;
mod message;
mod sse;
mod websocket;

use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use pgbell::{Error, ErrorKind, Hub, HubHandle, State};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, TryAcquireError, watch};
use tokio::time::{sleep, timeout};

pub use self::feed::Feed;
use self::kept::{EXPIRY_INTERVAL, Kept, KeptSubscriptions};
pub use self::message::{Message, Numbered};

/// The channel of all rooms. The room is the topic.
pub const CHANNEL: &str = "live_page";

/// The highest number of browsers at the same time.
const CLIENTS_MAX: u32 = 10_000;

/// The limits of the queue of one browser.
const QUEUE_CAPACITY: usize = 64;
const QUEUE_BYTES: usize = 64 * 1024;

/// The time that the browsers have to take their last message.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(3);

/// The page and its endpoints. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LivePage(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    hub: HubHandle,
    kept: KeptSubscriptions,
    /// One permit for each browser.
    clients: Arc<Semaphore>,
    /// The state of the connection to the database, for the page.
    database: watch::Receiver<&'static str>,
    is_closing: watch::Sender<bool>,
}

/// The reason why a browser gets no feed.
#[derive(Debug)]
pub enum Refusal {
    /// The room cannot be subscribed to.
    Room(Error),
    /// There are too many browsers.
    Full,
    /// The program or the hub ends.
    Closed,
}

impl LivePage {
    /// Creates the page, a task that follows the state of the hub, and one that drops the subscriptions of browsers that stay away.
    #[must_use]
    pub fn new(hub: HubHandle) -> Self {
        let (sender, database) = watch::channel("connected");
        tokio::spawn(follow_state(hub.clone(), sender));
        let shared = Arc::new(Shared {
            hub,
            kept: KeptSubscriptions::default(),
            clients: Arc::new(Semaphore::new(CLIENTS_MAX as usize)),
            database,
            is_closing: watch::Sender::new(false),
        });
        tokio::spawn(expire(Arc::downgrade(&shared)));
        Self(shared)
    }

    /// Returns the routes: `/`, `/rooms/ROOM/events` (server-sent events) and `/rooms/ROOM/socket` (WebSocket).
    pub fn router(&self) -> Router {
        Router::new()
            .route("/", get(|| async { Html(include_str!("page.html")) }))
            .route("/rooms/{room}/events", get(sse::events))
            .route("/rooms/{room}/socket", get(websocket::socket))
            .with_state(self.clone())
    }

    /// Opens the feed of one browser. `last_id` is the last id that it has received, if it was connected before.
    ///
    /// # Errors
    /// The [`Refusal`].
    pub async fn open(&self, room: &str, last_id: Option<&str>) -> Result<Feed, Refusal> {
        if *self.0.is_closing.borrow() {
            return Err(Refusal::Closed);
        }
        let permit = self.0.clients.clone().try_acquire_owned().map_err(|error| match error {
            TryAcquireError::Closed => Refusal::Closed,
            TryAcquireError::NoPermits => Refusal::Full,
        })?;
        let continued = last_id.and_then(|id| self.0.kept.take(room, id));
        let is_reconnect = last_id.is_some();
        if let Some(kept) = continued {
            return Ok(Feed::new(self.0.clone(), kept, permit, is_reconnect, true));
        }
        let subscribe = self.0.hub.subscribe_topic(CHANNEL, room);
        let subscribe = subscribe.queue_capacity(QUEUE_CAPACITY).queue_bytes(QUEUE_BYTES);
        let subscription = subscribe.await.map_err(|error| match error.kind() {
            ErrorKind::Closed => Refusal::Closed,
            _ => Refusal::Room(error),
        })?;
        let kept = Kept::new(room, subscription);
        Ok(Feed::new(self.0.clone(), kept, permit, is_reconnect, false))
    }

    /// Sends every browser its last message, refuses new ones, and waits until all have gone.
    async fn close(&self) {
        self.0.is_closing.send_replace(true);
        // The semaphore is never closed, so there is no error.
        let _ = self.0.clients.acquire_many(CLIENTS_MAX).await;
    }
}

/// Serves the page until `stop` ends, or the hub. Then every browser gets a last message, and the hub is closed.
pub async fn serve(hub: Hub, listener: TcpListener, stop: impl Future<Output = ()>) {
    let page = LivePage::new(hub.handle());
    let mut is_closing = page.0.is_closing.subscribe();
    let stopped = async move { drop(is_closing.wait_for(|is_closing| *is_closing).await) };
    let serving = axum::serve(listener, page.router()).with_graceful_shutdown(stopped);
    let mut serving = pin!(serving.into_future());
    let handle = hub.handle();
    tokio::select! {
        // Errors of single connections do not end it.
        _ = &mut serving => {}
        () = stop => {}
        _ = handle.wait_state(State::Closed) => {}
    }
    // Browsers that do not read are disconnected after the timeout: their tasks end with the program.
    let all_gone = async { tokio::join!(page.close(), serving) };
    let _ = timeout(GOODBYE_TIMEOUT, all_gone).await;
    hub.close().await;
}

/// Follows the state of the hub to its end. The page shows it; the losses are reported by the subscriptions.
async fn follow_state(hub: HubHandle, database: watch::Sender<&'static str>) {
    loop {
        for (state, text) in
            [(State::Connected, "connected"), (State::Reconnecting, "reconnecting")]
        {
            if hub.wait_state(state).await.is_err() {
                database.send_replace("closed");
                return;
            }
            database.send_replace(text);
        }
    }
}

/// Drops what was kept too long, until the page is dropped.
async fn expire(page: Weak<Shared>) {
    while let Some(shared) = page.upgrade() {
        shared.kept.expire();
        drop(shared);
        sleep(EXPIRY_INTERVAL).await;
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Room(error) => (StatusCode::BAD_REQUEST, format!("{error:#}")).into_response(),
            Self::Full => (StatusCode::SERVICE_UNAVAILABLE, "too many clients").into_response(),
            Self::Closed => (StatusCode::SERVICE_UNAVAILABLE, "the server ends").into_response(),
        }
    }
}

/// Returns the last id of a reconnect: a browser sends it as a header with server-sent events, and the script of the page in the URL of a
/// WebSocket.
fn last_id(request: &Request) -> Option<String> {
    let header = request.headers().get("last-event-id").and_then(|value| value.to_str().ok());
    let query = || request.uri().query()?.strip_prefix("last=");
    header.or_else(query).map(str::to_owned)
}
