//! [`MirrorWatch`] and [`MirrorKeyWatch`]: wait for changes of a mirror, or of one row.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::race::unless;
use super::refusal::closed;
use super::shared::Shared;
use crate::error::Error;

/// Waits for changes of a whole [`Mirror`](crate::durable::Mirror): [`Mirror::watch`](crate::durable::Mirror::watch).
///
/// It has the semantics of tokio's `watch`: several changes between two calls are one. It does not keep the mirror open.
///
/// ```no_run
/// # async fn example(mirror: &pgbell::durable::Mirror<String>) -> Result<(), pgbell::Error> {
/// let mut watch = mirror.watch();
/// loop {
///     println!("version {}: {} rows", watch.version(), mirror.len());
///     watch.changed().await?;
/// }
/// # }
/// ```
pub struct MirrorWatch<V> {
    shared: Arc<Shared<V>>,
    receiver: watch::Receiver<u64>,
}

impl<V> MirrorWatch<V> {
    pub(super) fn new(shared: Arc<Shared<V>>) -> Self {
        let receiver = shared.store.watch();
        Self { shared, receiver }
    }

    /// Returns the newest version that is reported to watches, and takes it as seen. For a moment, that of the [mirror](crate::durable::Mirror::version) may
    /// be the next one already: then [`changed`](Self::changed) returns it.
    pub fn version(&mut self) -> u64 {
        *self.receiver.borrow_and_update()
    }

    /// Waits until there is a version that was not seen, and returns the newest one. A watch has seen the version at its creation.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) after the end of the mirror, when its last version was seen.
    ///
    /// # Cancel safety
    /// A dropped future misses nothing.
    pub async fn changed(&mut self) -> Result<u64, Error> {
        changed(&self.shared, &mut self.receiver).await?;
        Ok(self.version())
    }
}

/// Waits until a value has changed, or the task has ended.
async fn changed<V, T>(shared: &Shared<V>, receiver: &mut watch::Receiver<T>) -> Result<(), Error> {
    match unless(shared.ended(), receiver.changed()).await {
        Some(Ok(())) => Ok(()),
        // The last change was before the end.
        _ if receiver.has_changed().is_ok_and(|has| has) => Ok(()),
        _ => Err(closed()),
    }
}

impl<V> Clone for MirrorWatch<V> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), receiver: self.receiver.clone() }
    }
}

impl<V> fmt::Debug for MirrorWatch<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirrorWatch").field("mirror", &self.shared.name).finish_non_exhaustive()
    }
}

/// Waits for changes of one row of a [`Mirror`](crate::durable::Mirror): [`Mirror::watch_key`](crate::durable::Mirror::watch_key).
///
/// It has the semantics of tokio's `watch`: it has the newest value, and several changes between two calls are one. It does not keep the mirror open.
/// Watches of the same key share one value; the mirror forgets it with the last of them.
///
/// ```no_run
/// # async fn example(mirror: &pgbell::durable::Mirror<String>) -> Result<(), pgbell::Error> {
/// let mut order = mirror.watch_key("456");
/// let mut now = order.current();
/// loop {
///     match &now {
///         Some(status) => println!("order 456 is {status}"),
///         None => println!("there is no order 456"),
///     }
///     now = order.changed().await?;
/// }
/// # }
/// ```
pub struct MirrorKeyWatch<V> {
    shared: Arc<Shared<V>>,
    key: Arc<str>,
    /// `None` only while it is dropped.
    receiver: Option<watch::Receiver<Option<Arc<V>>>>,
}

impl<V> MirrorKeyWatch<V> {
    pub(super) fn new(shared: Arc<Shared<V>>, key: &str) -> Self {
        let (key, receiver) = shared.store.watch_key(key);
        Self { shared, key, receiver: Some(receiver) }
    }

    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the value now, and takes it as seen. `None` if there is no such row, or if it was not decoded.
    pub fn current(&mut self) -> Option<Arc<V>> {
        self.receiver.as_mut()?.borrow_and_update().clone()
    }

    /// Waits until the row has a value that was not seen, or vanishes, and returns the newest one. A watch has seen the value at its creation.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) after the end of the mirror, when its last value was seen.
    ///
    /// # Cancel safety
    /// A dropped future misses nothing.
    pub async fn changed(&mut self) -> Result<Option<Arc<V>>, Error> {
        let receiver = self.receiver.as_mut().ok_or_else(closed)?;
        changed(&self.shared, receiver).await?;
        Ok(self.current())
    }
}

impl<V> Drop for MirrorKeyWatch<V> {
    fn drop(&mut self) {
        drop(self.receiver.take());
        self.shared.store.unwatch(&self.key);
    }
}

impl<V> fmt::Debug for MirrorKeyWatch<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirrorKeyWatch").field("mirror", &self.shared.name).finish_non_exhaustive()
    }
}
