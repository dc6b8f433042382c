//! [`FrameRun`]: consecutive notifications with something in common, their key.

use crate::proto::wire::{self, Notifications, Run};

/// Consecutive notifications with one key, such as their channel or their topic.
pub(crate) struct FrameRun<'a, K> {
    pub(crate) key: K,
    pub(crate) frames: &'a [u8],
    pub(crate) run: Run,
    /// The number of notifications before it.
    pub(crate) first: usize,
}

/// Divides `frames` into runs. `read` reads the next notification, `key` returns the key of the first notification of a run, and `belongs`
/// whether a following one belongs to the run. Each is called at most once for each notification.
#[inline(always)]
pub(crate) fn divide<'a, T, K>(
    frames: &'a [u8],
    mut read: impl FnMut(&mut Notifications<'a>) -> Option<T>,
    mut key: impl FnMut(T) -> K,
    mut belongs: impl FnMut(&K, &T) -> bool,
) -> impl Iterator<Item = FrameRun<'a, K>> {
    let mut notifications = wire::frames(frames);
    let mut rest = frames;
    let mut next = read(&mut notifications);
    let mut passed = 0;
    std::iter::from_fn(move || {
        let key = key(next.take()?);
        let (first, mut count) = (passed, 0);
        let behind = loop {
            count += 1;
            let behind = notifications.remaining();
            next = read(&mut notifications);
            if !next.as_ref().is_some_and(|following| belongs(&key, following)) {
                break behind;
            }
        };
        let (frames, behind) = rest.split_at(rest.len() - behind.len());
        rest = behind;
        passed += count;
        Some(FrameRun { key, frames, run: Run { count, bytes: frames.len() }, first })
    })
}

/// Divides `frames` into runs with one channel each.
#[inline(always)]
pub(crate) fn by_channel(frames: &[u8]) -> impl Iterator<Item = FrameRun<'_, &[u8]>> {
    divide(
        frames,
        Notifications::next_and_same,
        |(first, _)| first.channel,
        |_, (_, is_same)| *is_same,
    )
}
