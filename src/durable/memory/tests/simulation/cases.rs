//! [`CursorCases`]: how often what is rare has happened.

macro_rules! cases {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often each case has happened in some runs.
        #[derive(Debug, Default, Clone, Copy)]
        pub(super) struct CursorCases {
            $($(#[$doc])* pub(super) $name: u64,)*
        }

        impl CursorCases {
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
    /// Records that a reader has acknowledged.
    acknowledged,
    /// Of these, those of a transaction that the lower snapshot lists.
    listed,
    /// Of these, those of a transaction between the xmax of the lower snapshot and `next`, with an id up to `high`.
    unlisted,
    /// Records of transactions that were aborted.
    aborted,
    /// Pages in a window that another page has opened.
    further_pages,
    /// Of these, those without records.
    empty_pages,
    /// Pages that were read after one that was not acknowledged.
    read_ahead,
    /// Rewinds that discard pages.
    rewinds,
    /// Rewinds to a position in a window.
    rewinds_to_window,
    /// Writes that were skipped because another transaction had the key.
    locked,
    /// Records that were removed.
    truncated,
    /// Drains of a reader while a writer is in the middle of a transaction with records.
    drains_beside_writers,
    /// Drains while a foreign transaction with an xid is in progress.
    drains_beside_foreign,
    /// Pages that were read while other transactions began between the snapshot and `next`.
    torn_reads,
}
