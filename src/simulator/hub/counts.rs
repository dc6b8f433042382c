//! [`HubCounts`]: how often the interesting cases of a hub have happened.

/// Declares counters, with their names.
macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often each case has happened.
        #[derive(Debug, Default, Clone, Copy)]
        pub(in super::super) struct HubCounts {
            $($(#[$doc])* pub(super) $name: u64,)*
        }

        impl HubCounts {
            pub(super) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            pub(super) fn delivered(&self) -> u64 {
                self.delivered
            }

            /// Returns each case and how often it has happened.
            pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counts! {
    /// A subscribe returned at its first poll.
    at_once,
    /// A subscribe waited for LISTEN.
    waited,
    /// A subscription was made without a session, or while everything was held back.
    pending,
    /// The server refused a channel of a subscribe.
    refused,
    /// A subscribe was refused because the hub was ending.
    refused_at_the_end,
    /// A subscribe met an UNLISTEN that was sent.
    behind_unlisten,
    /// A subscribe met a LISTEN that was sent or will be.
    joined_a_listen,
    /// A subscribe to a channel that other subscriptions have, and that the server refuses.
    asked_again,
    /// A subscribe while everything was held back.
    while_held,
    /// A subscribe was dropped while it waited, and after it was answered.
    dropped_waiting,
    dropped_after_the_answer,
    /// A subscription was dropped.
    left,
    left_unread,
    last_left_in_an_outage,
    /// Commands of the keeper.
    listens,
    unlistens,
    groups,
    /// The server listens again to a channel that it had refused to a subscription.
    accepted_again,
    delivered,
    delivered_topics,
    delivered_filtered,
    delivered_of_several,
    batches,
    lagged_oldest,
    lagged_newest,
    gaps,
    topic_panics,
    closed,
    drained,
}
