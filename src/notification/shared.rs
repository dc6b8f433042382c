//! A run of notifications, kept.

use std::fmt;
use std::sync::Arc;

use super::{Batch, Iter, Loss, NotificationRef, Stamp};
use crate::ring::Held;

/// A batch copies rather than pins when it uses less than this part of its buffer: 1/8.
const WORTH_A_PIN: u64 = 8;

/// A [`Batch`] that is kept: made by [`Batch::share`], cloned for whoever wants it, on any thread.
///
/// It may outlive what it came from. As long as a clone of it lives, it may hold a receive buffer of 256 KiB,
/// counted in [`Stats::pinned_bytes`](crate::Stats::pinned_bytes).
///
/// ```no_run
/// # async fn example(mut listener: pgbell::Listener) -> Result<(), pgbell::Error> {
/// let shared = listener.recv_batch().await?.share();
/// let counting = std::thread::spawn({
///     let shared = shared.clone();
///     move || shared.iter().filter(|n| n.payload().is_empty()).count()
/// });
/// for notification in &shared {
///     println!("{}", notification.channel());
/// }
/// # drop(counting);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SharedBatch(Arc<Inner>);

struct Inner {
    frames: Held,
    count: usize,
    first: u64,
    stamp: Stamp,
    loss: Option<Loss>,
}

impl SharedBatch {
    pub(super) fn new(batch: &Batch<'_>) -> Self {
        let frames = batch.frames();
        let pinned = batch.lent().and_then(|lent| {
            let least = lent.buffer_bytes()?.div_ceil(WORTH_A_PIN);
            let start = lent.position(frames).filter(|_| frames.len() as u64 >= least)?;
            lent.hold(start..start + frames.len())
        });
        Self(Arc::new(Inner {
            frames: pinned.unwrap_or_else(|| Held::copy(frames)),
            count: batch.len(),
            first: batch.first(),
            stamp: *batch.stamp(),
            loss: batch.loss().cloned(),
        }))
    }

    /// The same as a batch that borrows from this.
    pub fn batch(&self) -> Batch<'_> {
        let inner = &*self.0;
        let frames = &inner.frames;
        let batch = Batch::new(frames.bytes(), inner.count, inner.first, &inner.stamp);
        let batch = batch.lent_by(frames.lent());
        match &inner.loss {
            Some(loss) => batch.after(loss),
            None => batch,
        }
    }

    /// See [`Batch::iter`].
    #[inline]
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        self.batch().iter()
    }

    /// See [`Batch::len`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.count == 0
    }

    /// See [`Batch::loss`].
    #[must_use]
    pub fn loss(&self) -> Option<&Loss> {
        self.0.loss.as_ref()
    }
}

impl<'a> IntoIterator for &'a SharedBatch {
    type Item = NotificationRef<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl fmt::Debug for SharedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBatch")
            .field("first", &self.0.first)
            .field("len", &self.0.count)
            .field("loss", &self.0.loss)
            .finish()
    }
}
