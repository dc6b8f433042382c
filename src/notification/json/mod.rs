//! Payloads of JSON as values of the user's types.
//!
//! - [`Notification::json`] and [`NotificationRef::json`] decode one payload.
//! - [`JsonEvent`] is an [`Event`] whose payload was decoded, and [`JsonStream`] a stream of these over any stream of events.
//! - [`JsonError`] is a payload that cannot be decoded, with its notification.
//! - `field` finds one field of an object, as a topic.

mod error;
mod event;
#[cfg(feature = "tokio")]
pub(super) mod field;
#[cfg(feature = "tokio")]
mod stream;
#[cfg(test)]
mod tests;

use serde_core::de::Deserialize;

pub use self::error::JsonError;
pub use self::event::JsonEvent;
#[cfg(feature = "tokio")]
pub use self::stream::{JsonStream, TryRecv};
use super::{Notification, NotificationRef};

impl Notification {
    /// Decodes the payload as JSON. The value can borrow from the notification.
    ///
    /// ```
    /// #[derive(serde::Deserialize)]
    /// struct UserEvent<'a> {
    ///     user_id: i64,
    ///     action: &'a str,
    /// }
    ///
    /// fn handle(notification: &pgbell::Notification) -> Result<(), pgbell::Error> {
    ///     let event: UserEvent<'_> = notification.json()?;
    ///     println!("user {}: {}", event.user_id, event.action);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// A field of the type `&str` cannot be decoded from a string with escapes, such as `"a\n"`: use `String`, or `Cow<str>` with
    /// `#[serde(borrow)]`.
    ///
    /// # Errors
    /// [`JsonError`] if the payload is not JSON or is not what `T` expects, and if more than 127 levels would be decoded. What `T` ignores
    /// may be nested deeper: it is read without recursion.
    ///
    /// # Panics
    /// Where the implementation of `T` panics.
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, JsonError> {
        serde_json::from_slice(self.payload_bytes())
            .map_err(|cause| JsonError::new(self.clone(), cause))
    }
}

impl<'a> NotificationRef<'a> {
    /// See [`Notification::json`]. The value can borrow from the receive buffer. An error has a [copy](Self::to_owned) of the notification.
    ///
    /// # Errors
    /// See there.
    ///
    /// # Panics
    /// See there.
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    pub fn json<T: Deserialize<'a>>(&self) -> Result<T, JsonError> {
        serde_json::from_slice(self.payload_bytes())
            .map_err(|cause| JsonError::new(self.to_owned(), cause))
    }
}
