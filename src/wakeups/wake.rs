//! [`Wake`]: why a worker reads, and [`Keys`]: what it must read.

use std::collections::BTreeSet;
use std::fmt;

use crate::notification::Gap;

/// The highest number of keys of one wake-up. Beyond it everything is read.
pub(super) const KEYS_MAX: usize = 1_024;

/// The highest number of bytes of the keys of one wake-up: 256 each, if there are as many as possible. Beyond it everything is read.
pub(super) const KEYS_BYTES_MAX: usize = 256 * 1_024;

/// What a worker of [`Wakeups`](crate::Wakeups) is woken by.
///
/// Everything that happens between two wake-ups is one wake-up. A worker that reads its whole table for each one, up to its batch size, needs
/// no more than that it was woken. One that reads rows by their keys reads those of [`keys`](Self::keys), if there are any:
///
/// ```no_run
/// # async fn read_rows(_: &std::collections::BTreeSet<String>) {}
/// # async fn read_batch(limit: usize) -> usize { 0 }
/// # async fn example(worker: pgbell::WakeWorker) -> Result<(), pgbell::Error> {
/// loop {
///     let wake = worker.wake().await?;
///     match wake.keys() {
///         Some(keys) => read_rows(keys).await,
///         // If it is a full batch, there may be more: one more wake-up follows.
///         None => drop(worker.found(read_batch(worker.batch_size()).await)),
///     }
/// }
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Wake {
    /// Notifications arrived, or nudges of an [attached](crate::Wakeups::attach) notifier.
    Notified {
        /// Their number.
        count: u64,
        /// Their payloads, and the keys of the nudges.
        keys: Keys,
    },
    /// Everything must be read: at the start, after the interval, after a full batch, or because listening has begun.
    Poll,
    /// Everything must be read, because notifications may be missing. Several losses are one gap. Notifications that arrived before or
    /// after it belong to this wake-up.
    Resync(Gap),
}

/// The payloads of the notifications of a wake-up.
///
/// ```no_run
/// # async fn example(worker: pgbell::WakeWorker) -> Result<(), pgbell::Error> {
/// let wake = worker.wake().await?;
/// // `None` for `All`, for a poll and for a loss.
/// match wake.keys() {
///     Some(keys) => println!("read {keys:?}"),
///     None => println!("read everything"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keys {
    /// These, each once: at most 1,024, with at most 256 KiB. A notification without a payload has the empty key: it names nothing, so
    /// [`Wake::keys`] returns `None` then.
    Set(BTreeSet<String>),
    /// Everything must be read. There were more keys than a [`Set`](Self::Set) has, or a poll is due at the same time.
    All,
}

impl Wake {
    /// Returns the keys that must be read. `None`: everything must be read. That is so too if one of the notifications had no payload.
    #[must_use]
    pub fn keys(&self) -> Option<&BTreeSet<String>> {
        match self {
            Self::Notified { keys: Keys::Set(keys), .. } => {
                Some(keys).filter(|keys| !keys.contains(""))
            }
            Self::Notified { keys: Keys::All, .. } | Self::Poll | Self::Resync(_) => None,
        }
    }
}

/// Writes one line, without keys, which are the application's data.
impl fmt::Display for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Notified { count, keys } => {
                let plural = if *count == 1 { "" } else { "s" };
                write!(f, "{count} notification{plural}, ")?;
                match keys {
                    Keys::Set(keys) if keys.len() == 1 => f.write_str("1 key"),
                    Keys::Set(keys) => write!(f, "{} keys", keys.len()),
                    Keys::All => f.write_str("all keys"),
                }
            }
            Self::Poll => f.write_str("poll"),
            Self::Resync(gap) => write!(f, "{gap}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A notification without a payload names no row: a worker that reads the rows of the keys would read none.
    #[test]
    fn a_notification_without_a_payload_means_that_everything_must_be_read() {
        for (keys, reads_all) in [(vec!["a"], false), (vec![""], true), (vec!["", "a"], true)] {
            let keys = Keys::Set(keys.into_iter().map(str::to_owned).collect());
            let wake = Wake::Notified { count: 1, keys };
            assert_eq!(wake.keys().is_none(), reads_all, "{wake:?}");
        }
    }
}
