//! The search for a notification in a run. Tests count the notifications that are looked at.

use crate::proto::wire::{self, RawNotification};

/// Returns the index of the first notification in `frames` for which `is_it` is true.
pub(super) fn position(
    frames: &[u8],
    mut is_it: impl FnMut(RawNotification<'_>) -> bool,
) -> Option<usize> {
    wire::frames(frames).position(|one| {
        #[cfg(test)]
        LOOKED_AT.set(LOOKED_AT.get() + 1);
        is_it(one)
    })
}

#[cfg(test)]
thread_local! {
    /// The number of notifications that this thread has looked at.
    pub(super) static LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}
