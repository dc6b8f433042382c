//! Which server next, over what, and whether it is the right one: pure decisions of an attempt to
//! connect, in libpq's order. The shell looks names up, opens sockets and logs in.
//!
//! ```text
//! servers (shuffled?) ─► addresses (shuffled?) ─► Encryption, one or two ─► login ─► TargetSessionAttrs
//!        ▲                      ▲                        ▲                   │            │
//!        └──── Next::Server ────┴──── Next::Address ─────┴── Next::Encryption┘   Mismatch─┴► Next::Server
//! ```

mod encryption;
mod failure;
mod next;
mod shuffle;
mod target;

use std::time::Duration;

pub use encryption::Encryption;
pub use failure::{Failure, sum_up};
pub use next::{Next, Reached};
pub use shuffle::Shuffle;
pub use target::{Mismatch, ServerFacts, accept};

/// Least time for one of several tries: a share smaller than this would give up on servers that are only
/// far away.
const SHARE_MIN: Duration = Duration::from_secs(1);

/// The part of the `left` time that the first of `tries` may take, so that one mute server leaves time
/// for the others. The last gets all.
#[must_use]
pub fn share(left: Duration, tries: usize) -> Duration {
    let tries = u32::try_from(tries.max(1)).unwrap_or(u32::MAX);
    (left / tries).max(SHARE_MIN).min(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mute_server_leaves_time_for_the_others() {
        let seconds = Duration::from_secs;
        for (left, tries, expected) in
            [(10, 1, 10), (10, 2, 5), (10, 100, 1), (10, 0, 10), (0, 3, 0)]
        {
            assert_eq!(share(seconds(left), tries), seconds(expected), "{left} s, {tries} tries");
        }
        assert_eq!(share(Duration::from_millis(300), 2), Duration::from_millis(300));
    }
}
