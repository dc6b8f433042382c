//! The decisions of an attempt to connect, without I/O and in libpq's order: which candidate is next, with which
//! encryption, and whether the server is of the requested kind. `net` looks names up, opens sockets and logs in.
//!
//! ```text
//! servers (shuffled?) ─► addresses (shuffled?) ─► Encryption, one or two ─► login ─► TargetSessionAttrs
//!        ▲                      ▲                        ▲                   │            │
//!        └─────── Server ───────┴─────── Address ────────┴─── Encryption ────┘   Mismatch─┴► Server
//!
//! The words below the arrows are the variants of NextAttempt.
//! ```

mod encryption;
mod failure;
mod next_attempt;
mod pseudo_random;
mod target;

use std::time::Duration;

pub use encryption::Encryption;
pub use failure::{Failure, sum_up};
pub use next_attempt::{NextAttempt, Reached};
pub use pseudo_random::PseudoRandom;
pub use target::{Mismatch, ServerFacts, accept};

/// The shortest time for one of several candidates. With less, a distant server would be given up although it answers.
const SHARE_MIN: Duration = Duration::from_secs(1);

/// Returns the part of the `left` time that the first of `tries` candidates may take, so that a server that does not
/// answer leaves time for the others. The last one gets all.
#[must_use]
pub fn share(left: Duration, tries: usize) -> Duration {
    let tries = u32::try_from(tries.max(1)).unwrap_or(u32::MAX);
    (left / tries).max(SHARE_MIN).min(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_answer_leaves_time_for_the_others() {
        let seconds = Duration::from_secs;
        for (left, tries, expected) in
            [(10, 1, 10), (10, 2, 5), (10, 100, 1), (10, 0, 10), (0, 3, 0)]
        {
            assert_eq!(share(seconds(left), tries), seconds(expected), "{left} s, {tries} tries");
        }
        assert_eq!(share(Duration::from_millis(300), 2), Duration::from_millis(300));
    }
}
