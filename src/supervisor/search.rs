//! The search for a notification in a run. Tests count what is looked at.

use crate::wire::{self, RawNotification};

/// The place of the first notification in `frames` for which `is_it` is true.
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
    /// How many notifications were looked at by this thread.
    pub(super) static LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}
