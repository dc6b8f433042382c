//! What a server can do to it that is none.

use pgbell::{Listener, Overflow};

use crate::alone;
use crate::bound::{BESIDE_BYTES, formula};
use crate::peer::{Pair, diagnostic, notifications};

/// Longest messages that are accepted, in bytes with the type byte.
const NOTIFICATION_BYTES: usize = 256 * 1024 + 1;
const DIAGNOSTIC_BYTES: usize = 1024 * 1024 + 1;

/// What messages longer than a buffer take: one of them while it comes in, and a copy of what stands
/// behind each.
fn long(bytes: usize) -> usize {
    bytes + 4 * 1024 * 1024
}

#[test]
fn messages_of_the_greatest_length_take_a_bounded_amount_of_memory() {
    let short = notifications(4_000, 1);
    let single = notifications(1, 1);
    let longest = notifications(1, NOTIFICATION_BYTES - single.len() + 1);
    let notice = diagnostic(b'N', DIAGNOSTIC_BYTES);
    let error = diagnostic(b'E', DIAGNOSTIC_BYTES);
    assert_eq!((longest.len(), notice.len()), (NOTIFICATION_BYTES, DIAGNOSTIC_BYTES));
    for overflow in [Overflow::DropNewest, Overflow::DropOldest] {
        for (capacity, bytes) in [(100_000, 8 * 1024 * 1024), (64, 300 * 1024)] {
            let (peak, gaps) = alone(async {
                let mut pair = Pair::connect(|url| {
                    let builder = Listener::builder(url).queue_capacity(capacity);
                    builder.queue_bytes(bytes).overflow(overflow).pin_limit_bytes(0)
                })
                .await;
                // A gap in every place: each holds the words of an error.
                for _ in 0..66 {
                    pair.write(&error, 0).await;
                    pair.write(&single, 1).await;
                }
                for _ in 0..20 {
                    let together = [&notice[..], &short].concat();
                    pair.write(&together, 4_000).await;
                    pair.write(&single, 1).await;
                }
                for _ in 0..20 {
                    pair.write(&longest, 1).await;
                    pair.write(&single, 1).await;
                }
                pair.drain().await;
                (pair.meter.peak(), pair.gaps)
            });
            let most = formula(capacity, bytes) + BESIDE_BYTES + long(bytes);
            assert!(peak <= most, "{overflow:?}, {capacity}, {bytes}: {peak} and not {most}");
            assert_eq!(gaps, 64);
        }
    }
}
