//! The endpoint for WebSockets.

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Feed, LivePage};

/// The time in which a browser must take a message.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// The time between two pings, which find out whether the browser is still there.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// A browser has nothing to send.
const RECEIVED_BYTES_MAX: usize = 1024;

pub(super) async fn socket(
    State(page): State<LivePage>,
    Path(room): Path<String>,
    upgrade: WebSocketUpgrade,
    request: Request,
) -> Response {
    match page.open(&room, super::last_id(&request).as_deref()).await {
        Ok(feed) => {
            upgrade.max_message_size(RECEIVED_BYTES_MAX).on_upgrade(|socket| serve(socket, feed))
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Sends the feed to its end, or to that of the socket.
async fn serve(mut socket: WebSocket, mut feed: Feed) {
    let mut pings = interval(PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = tokio::select! {
            message = feed.next() => match message {
                Some(message) => Message::Text(message.json().into()),
                None => Message::Close(None),
            },
            // axum answers pings. What the browser sends is not used.
            received = socket.recv() => match received {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
            _ = pings.tick() => Message::Ping(Default::default()),
        };
        let is_last = matches!(next, Message::Close(_));
        let sent = timeout(SEND_TIMEOUT, socket.send(next)).await;
        if is_last || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}
