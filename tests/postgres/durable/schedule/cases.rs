//! [`ScheduleCases`]: how often what is rare has happened.

macro_rules! cases {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often each case has happened in some runs.
        #[derive(Debug, Default, Clone, Copy)]
        pub(super) struct ScheduleCases {
            $($(#[$doc])* pub(super) $name: u64,)*
        }

        impl ScheduleCases {
            pub(super) fn add(&mut self, more: &Self) {
                $(self.$name += more.$name;)*
            }

            pub(super) fn rarest(&self) -> (&'static str, u64) {
                let all = [$((stringify!($name), self.$name)),*];
                all.into_iter().min_by_key(|(_, count)| *count).unwrap()
            }
        }
    };
}

cases! {
    /// Records that were received.
    received,
    /// Of these, those of a transaction that the stored snapshot lists.
    listed,
    /// Of these, those of a transaction from the xmax of the stored snapshot on, with an id up to the highest one.
    unlisted,
    /// Pages that were read in a window.
    further_pages,
    /// Windows whose last page is empty, so that the next window follows in the same call.
    empty_pages,
    /// Batches that were not acknowledged.
    left,
    /// Acknowledgements in a transaction that commits.
    in_transaction,
    /// Acknowledgements in a transaction that is rolled back.
    rolled_back,
    /// Receipts that are used later, and still valid.
    late_receipts,
    /// Receipts that are refused because of another acknowledgement.
    stale_receipts,
    /// Receipts that are refused because of another reader.
    fenced_receipts,
    /// Cursors that were closed and opened again.
    reopened,
    /// Cursors that another reader has taken.
    taken,
    /// Transactions that were prepared.
    prepared,
    /// Sequences of subtransactions.
    crowds,
    /// Partitions that were truncated.
    truncated,
}
