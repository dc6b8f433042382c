//! The endpoint for server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use super::{LivePage, Numbered};

/// The time after which a browser reconnects.
const RETRY: Duration = Duration::from_secs(1);

pub(super) async fn events(
    State(page): State<LivePage>,
    Path(room): Path<String>,
    request: Request,
) -> Response {
    let feed = match page.open(&room, super::last_id(&request).as_deref()).await {
        Ok(feed) => feed,
        Err(refusal) => return refusal.into_response(),
    };
    // Polled only when the socket has room: a slow browser lets its queue fill.
    let events = stream::unfold(feed, |mut feed| async move {
        let message = feed.next().await?;
        Some((Ok::<_, Infallible>(event(&message)), feed))
    });
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

/// The data is JSON, and so contains no line break.
fn event(message: &Numbered) -> Event {
    Event::default().id(&message.id).event(message.message.name()).data(message.json()).retry(RETRY)
}
