//! [`SharedBatch`]: a batch without a lifetime.

use std::fmt;
use std::sync::Arc;

use super::{Batch, BatchIter, Loss, NotificationRef, ReceiveInfo};
use crate::proto::ring::PinnedBytes;

/// A batch that fills less than 1/8 of its receive buffer is copied: it does not pin the buffer.
const PIN_MIN_DIVISOR: u64 = 8;

/// A [`Batch`] without a lifetime, made by [`Batch::share`]. It can be cloned and used on any thread.
///
/// It can outlive its listener. Until its last clone is dropped, it may pin a receive buffer of 256 KiB, which is
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
pub struct SharedBatch(Arc<SharedInner>);

struct SharedInner {
    frames: PinnedBytes,
    count: usize,
    first: u64,
    info: ReceiveInfo,
    loss: Option<Loss>,
}

impl SharedBatch {
    pub(super) fn new(batch: &Batch<'_>) -> Self {
        let frames = batch.frames();
        let pinned = batch.part().and_then(|part| {
            let least = part.buffer_bytes()?.div_ceil(PIN_MIN_DIVISOR);
            let start = part.position(frames).filter(|_| frames.len() as u64 >= least)?;
            part.pin(start..start + frames.len())
        });
        Self(Arc::new(SharedInner {
            frames: pinned.unwrap_or_else(|| PinnedBytes::copy(frames)),
            count: batch.len(),
            first: batch.first(),
            info: *batch.info(),
            loss: batch.loss().cloned(),
        }))
    }

    /// Returns the batch, borrowed from this one.
    pub fn batch(&self) -> Batch<'_> {
        let inner = &*self.0;
        let frames = &inner.frames;
        let batch = Batch::new(frames.bytes(), inner.count, inner.first, &inner.info);
        let batch = batch.in_part(frames.part());
        match &inner.loss {
            Some(loss) => batch.after(loss),
            None => batch,
        }
    }

    /// See [`Batch::iter`].
    #[inline]
    #[must_use]
    pub fn iter(&self) -> BatchIter<'_> {
        self.batch().iter()
    }

    /// See [`Batch::len`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.count
    }

    /// Returns true if there are no notifications.
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
    type IntoIter = BatchIter<'a>;

    fn into_iter(self) -> BatchIter<'a> {
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
