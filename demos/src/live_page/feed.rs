//! [`Feed`]: the messages of one browser.

use std::collections::VecDeque;
use std::sync::Arc;

use pgbell::{Error, Event};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::kept::Kept;
use super::{Message, Numbered, Shared};

/// The messages of one browser. When it is dropped, its subscription is kept for a while: a browser that reconnects continues it.
#[derive(Debug)]
pub struct Feed {
    shared: Arc<Shared>,
    /// `None` after the last message.
    kept: Option<Kept>,
    /// Messages at the beginning.
    first: VecDeque<Message>,
    database: watch::Receiver<&'static str>,
    is_closing: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Feed {
    pub(super) fn new(
        shared: Arc<Shared>,
        kept: Kept,
        permit: OwnedSemaphorePermit,
        is_reconnect: bool,
        continued: bool,
    ) -> Self {
        let mut database = shared.database.clone();
        let is_closing = shared.is_closing.subscribe();
        let state = *database.borrow_and_update();
        let mut first = VecDeque::from([Message::Ready { continued }, Message::Database { state }]);
        if is_reconnect && !continued {
            let reason = "the server cannot continue after the last message".to_owned();
            first.push_back(Message::Reload { reason });
        }
        Self { shared, kept: Some(kept), first, database, is_closing, _permit: permit }
    }

    /// Waits for the next message. `None` after the last one.
    ///
    /// # Cancel safety
    /// A dropped future loses nothing.
    pub async fn next(&mut self) -> Option<Numbered> {
        let kept = self.kept.as_mut()?;
        let message = match self.first.pop_front() {
            Some(message) => message,
            None => tokio::select! {
                _ = self.is_closing.wait_for(|is_closing| *is_closing) => {
                    Message::Goodbye { reason: "the server ends".to_owned() }
                }
                event = kept.subscription.recv() => message(event),
                // After the end of the hub there is no sender, and this branch is not used.
                Ok(()) = self.database.changed() => {
                    Message::Database { state: *self.database.borrow_and_update() }
                }
            },
        };
        let id = kept.next_id();
        if matches!(message, Message::Goodbye { .. }) {
            self.kept = None;
        }
        Some(Numbered { id, message })
    }
}

fn message(event: Result<Event, Error>) -> Message {
    match event {
        Ok(Event::Notification(n)) => Message::Message { text: n.payload().to_owned() },
        Ok(loss) => Message::Reload { reason: loss.to_string() },
        Err(error) => Message::Goodbye { reason: format!("{error:#}") },
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(kept) = self.kept.take() {
            self.shared.kept.keep(kept);
        }
    }
}
