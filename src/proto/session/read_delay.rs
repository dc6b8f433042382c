//! The delay of reads while data arrives densely.
//!
//! A server that sends many notifications writes 8 KiB, and soon another 8 KiB. A client that reads each of them as soon as it
//! arrives is woken for each, and most of its processor time is that of the wake-ups. If it waits a little between two reads, a
//! read returns many writes at once. A [`ReadDelay`] decides when to wait, and when not, because waiting has no use while little
//! arrives.
//!
//! ```text
//!         ≥ 8 KiB          ≥ 8 KiB, short, within 500 µs          due              ≥ 16 KiB, short
//! Sparse ─────────▶ Dense ───────────────────────────────▶ Waiting ────▶ Waited ──────────────────▶ Waiting
//! ```
//! In `Dense` and `Waiting`, any other read of at least 8 KiB begins `Dense` again, and a smaller one ends it: `Sparse`. In
//! `Waited` a short read with less than 16 KiB since the delay leads to `Sparse`; a read that was not short is added to the next
//! one; a read later than a millisecond counts as in `Sparse`.
//!
//! A server writes 8 KiB when its buffer is full, and less when it has nothing more to send at the moment. It may have nothing
//! more because it waits for this client. So smaller reads never begin a delay. The longest notification of PostgreSQL is one:
//! it has 8,073 bytes. A client that gets one notification, answers, and gets the next one, has no delay, however long they are.
//!
//! Two reads are enough for a delay. After a delay in which little has arrived, twice as many are necessary, up to 1,024: the
//! server may wait for this client before it sends more. After a delay in which much has arrived, two are enough again.
//!
//! A read is short if it has taken everything that had arrived. A read that was not short is followed by another one without a
//! wait, in every state.

use std::time::{Duration, Instant};

/// The longest delay: one tick of the timer of tokio, which has no shorter ones. In this time a fast server sends about 300 KiB.
pub const READ_DELAY_MAX: Duration = Duration::from_millis(1);

/// The least size of a read in a dense flow, in bytes: a full buffer of a server. A single notification is shorter.
const DENSE_BYTES_MIN: usize = 8 * 1024;

/// The longest time between two such reads. So at least two of them arrive during a delay.
const DENSE_GAP_MAX: Duration = Duration::from_micros(500);

/// The least size of what arrives during a delay, in bytes: two writes of a server. With less, the delay has saved no wake-up.
const WAITED_BYTES_MIN: usize = 16 * 1024;

/// The number of reads that lead to a delay, at first and at most.
const DENSE_READS_MIN: u32 = 2;
const DENSE_READS_MAX: u32 = 1_024;

/// Decides whether to delay the next read of a socket.
///
/// ```
/// # #[cfg(feature = "proto")] {
/// use std::time::{Duration, Instant};
/// use pgbell::proto::session::{READ_DELAY_MAX, ReadDelay};
///
/// let start = Instant::now();
/// let mut delay = ReadDelay::new(READ_DELAY_MAX);
/// delay.handle_read(start, 8192, true);
/// assert_eq!(delay.until(), None);
/// let soon = start + Duration::from_micros(27);
/// delay.handle_read(soon, 8192, true);
/// assert_eq!(delay.until(), Some(soon + READ_DELAY_MAX));
/// // A read that finds little ends the delays.
/// delay.handle_due(soon + READ_DELAY_MAX);
/// delay.handle_read(soon + READ_DELAY_MAX, 51, true);
/// assert_eq!(delay.until(), None);
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ReadDelay {
    limit: Duration,
    flow: ReadFlow,
    /// The number of reads that lead to a delay.
    reads: u32,
}

/// How data arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadFlow {
    Sparse,
    /// This many reads were dense, the last one at this time.
    Dense {
        at: Instant,
        count: u32,
    },
    /// The next read is delayed.
    Waiting {
        until: Instant,
    },
    /// The delay has ended at this time. `bytes` were read since then.
    Waited {
        at: Instant,
        bytes: usize,
    },
}

impl ReadDelay {
    /// Creates a value that delays reads by at most `limit`. A limit above [`READ_DELAY_MAX`] is the same as that. With zero no
    /// read is delayed.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { limit: limit.min(READ_DELAY_MAX), flow: ReadFlow::Sparse, reads: DENSE_READS_MIN }
    }

    /// Handles the result of a read. `is_short` is true if the read has taken everything that had arrived, so that it did not
    /// fill the buffer.
    pub fn handle_read(&mut self, now: Instant, bytes: usize, is_short: bool) {
        if self.limit.is_zero() {
            return;
        }
        let is_after = |at: Instant, gap: Duration| now.saturating_duration_since(at) <= gap;
        self.flow = match self.flow {
            ReadFlow::Waited { at, bytes: before } if is_after(at, READ_DELAY_MAX) => {
                let bytes = before.saturating_add(bytes);
                match is_short {
                    true if bytes < WAITED_BYTES_MIN => {
                        self.reads = self.reads.saturating_mul(2).min(DENSE_READS_MAX);
                        ReadFlow::Sparse
                    }
                    true => {
                        self.reads = DENSE_READS_MIN;
                        self.wait(now)
                    }
                    false => ReadFlow::Waited { at: now, bytes },
                }
            }
            ReadFlow::Dense { at, count }
                if is_short && bytes >= DENSE_BYTES_MIN && is_after(at, DENSE_GAP_MAX) =>
            {
                match count.saturating_add(1) {
                    count if count >= self.reads => self.wait(now),
                    count => ReadFlow::Dense { at: now, count },
                }
            }
            _ if bytes >= DENSE_BYTES_MIN => ReadFlow::Dense { at: now, count: 1 },
            _ => ReadFlow::Sparse,
        };
    }

    /// Handles the end of a delay: the next read follows at once. It may be called up to a
    /// tick of the timer before [`until`](Self::until).
    pub fn handle_due(&mut self, now: Instant) {
        if self.until().is_some() {
            self.flow = ReadFlow::Waited { at: now, bytes: 0 };
        }
    }

    /// Returns the instant before which the socket should not be read. `None`: it can be read now.
    ///
    /// If something waits for an answer, the caller reads in any case, and passes the result in as usual.
    #[must_use]
    pub fn until(&self) -> Option<Instant> {
        match self.flow {
            ReadFlow::Waiting { until } => Some(until),
            ReadFlow::Sparse | ReadFlow::Dense { .. } | ReadFlow::Waited { .. } => None,
        }
    }

    fn wait(&self, now: Instant) -> ReadFlow {
        now.checked_add(self.limit).map_or(ReadFlow::Sparse, |until| ReadFlow::Waiting { until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    fn micros(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    /// Reads at simulated times.
    struct Reader {
        delay: ReadDelay,
        now: Instant,
    }

    impl Reader {
        fn new() -> Self {
            Self { delay: ReadDelay::new(READ_DELAY_MAX), now: Instant::now() }
        }

        /// Passes in reads: the time since the one before in microseconds, the bytes, and whether the read was short. Waits for
        /// the delays before them, and returns their number.
        fn delays(&mut self, reads: impl IntoIterator<Item = (u64, usize, bool)>) -> usize {
            let mut count = 0;
            for (gap, bytes, is_short) in reads {
                if let Some(until) = self.delay.until() {
                    assert!(until <= self.now + READ_DELAY_MAX);
                    self.now = until;
                    self.delay.handle_due(until);
                    count += 1;
                }
                self.now += micros(gap);
                self.delay.handle_read(self.now, bytes, is_short);
            }
            count
        }

        fn is_waiting(&self) -> bool {
            self.delay.until().is_some()
        }
    }

    #[test]
    fn two_reads_soon_after_each_other_delay_the_next_one() {
        let mut reader = Reader::new();
        assert_eq!(reader.delays([(0, 8 * KIB, true), (27, 8 * KIB, true)]), 0);
        assert!(reader.is_waiting());
        // Each of the next ones is delayed, as long as it finds enough.
        assert_eq!(reader.delays([(0, 300 * KIB, true); 100]), 100);
        assert!(reader.is_waiting());
    }

    #[test]
    fn one_sparse_read_ends_the_delays() {
        let mut reader = Reader::new();
        let dense = [(0, 8 * KIB, true), (27, 8 * KIB, true), (0, 300 * KIB, true)];
        assert_eq!(reader.delays(dense), 1);
        // What arrived during the delay is no more than one write.
        assert_eq!(reader.delays([(0, 8 * KIB, true)]), 1);
        assert!(!reader.is_waiting());
        // Twice as many reads are necessary now.
        assert_eq!(reader.delays([(0, 8 * KIB, true); 3]), 0);
        assert!(!reader.is_waiting());
        assert_eq!(reader.delays([(0, 8 * KIB, true); 1]), 0);
        assert!(reader.is_waiting());
        // After a delay in which much has arrived, two are enough.
        assert_eq!(reader.delays([(0, 300 * KIB, true), (0, 51, true)]), 2);
        assert_eq!(reader.delays([(0, 8 * KIB, true); 4]), 0);
        assert!(reader.is_waiting());
    }

    /// The server sends the next write when this client has received the one before. Each delay is of no use.
    #[test]
    fn a_server_that_waits_for_the_client_causes_few_delays() {
        let mut reader = Reader::new();
        assert_eq!(reader.delays([(50, 8 * KIB, true); 2_100]), 10);
        // From here on one delay in about a thousand reads.
        assert!(reader.delays(std::iter::repeat_n((50, 8 * KIB, true), 100_000)) < 100);
    }

    #[test]
    fn small_or_rare_reads_are_never_delayed() {
        let mut reader = Reader::new();
        // Byte by byte, and a write every millisecond.
        for read in [(0, 1, true), (10, 51, true), (1_000, 8 * KIB, true)] {
            assert_eq!(reader.delays([read; 1_000]), 0);
            assert!(!reader.is_waiting());
        }
    }

    #[test]
    fn a_ping_pong_of_notifications_of_any_length_is_never_delayed() {
        let longest = 1 + 4 + 4 + 64 + 8_000;
        assert!(longest < DENSE_BYTES_MIN);
        let mut reader = Reader::new();
        for bytes in (12..=longest).chain([DENSE_BYTES_MIN - 1]) {
            assert_eq!(reader.delays([(5, bytes, true); 3]), 0);
            assert!(!reader.is_waiting());
        }
    }

    #[test]
    fn a_read_that_fills_the_buffer_is_followed_by_another_one_at_once() {
        let mut reader = Reader::new();
        assert_eq!(reader.delays([(10, 256 * KIB, false); 1_000]), 0);
        assert!(!reader.is_waiting());
        // Also after a delay. The rest that follows belongs to what arrived during the delay, however small it is.
        let rest =
            [(0, 8 * KIB, true), (0, 256 * KIB, false), (20, 51, true), (0, 256 * KIB, false)];
        assert_eq!(reader.delays(rest), 2);
        assert!(!reader.is_waiting());
    }

    #[test]
    fn a_read_before_the_end_of_a_delay_ends_it() {
        let mut delay = ReadDelay::new(READ_DELAY_MAX);
        let now = Instant::now();
        delay.handle_read(now, 8 * KIB, true);
        delay.handle_read(now, 8 * KIB, true);
        assert!(delay.until().is_some());
        // A command was sent meanwhile.
        delay.handle_read(now + micros(20), 8 * KIB, true);
        assert_eq!(delay.until(), None);
        // The end of a delay that is over already changes nothing.
        delay.handle_due(now + micros(30));
        delay.handle_read(now + micros(40), 51, true);
        assert_eq!(delay.until(), None);
    }

    #[test]
    fn a_late_read_after_a_delay_counts_as_sparse() {
        let mut delay = ReadDelay::new(READ_DELAY_MAX);
        let now = Instant::now();
        delay.handle_read(now, 8 * KIB, true);
        delay.handle_read(now, 8 * KIB, true);
        delay.handle_due(now + READ_DELAY_MAX);
        // Nothing had arrived, and an hour later much arrives at once.
        delay.handle_read(now + Duration::from_secs(3_600), 100 * KIB, true);
        assert_eq!(delay.until(), None);
    }

    #[test]
    fn a_clock_that_is_stopped_delays_no_longer_than_the_limit() {
        let mut delay = ReadDelay::new(READ_DELAY_MAX);
        let now = Instant::now();
        for _ in 0..100 {
            delay.handle_read(now, 100 * KIB, true);
            assert!(delay.until().is_none_or(|until| until == now + READ_DELAY_MAX));
            delay.handle_due(now);
            assert_eq!(delay.until(), None);
        }
    }

    #[test]
    fn the_limit_is_at_most_a_tick_and_zero_delays_nothing() {
        let now = Instant::now();
        for (limit, until) in [
            (Duration::ZERO, None),
            (micros(300), Some(now + micros(300))),
            (Duration::MAX, Some(now + READ_DELAY_MAX)),
        ] {
            let mut delay = ReadDelay::new(limit);
            delay.handle_read(now, 8 * KIB, true);
            delay.handle_read(now, 8 * KIB, true);
            assert_eq!(delay.until(), until, "{limit:?}");
        }
    }
}
