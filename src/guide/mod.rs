//! The guide: chapters for users, with examples that are compiled and tested.
//!
#![cfg_attr(feature = "blocking", doc = "- [`blocking`]: threads without async.")]
//! - [`fan_out`]: one connection for many subscribers, and topics.
//! - [`handlers`]: a function for each channel or topic, with retries and a bounded end.
//! - `json`, with the feature `json`: payloads as values of your types, and topics that are fields of them.
//! - [`listen_cost`]: what LISTEN and NOTIFY cost the server, and how many channels and connections are too many.
//! - [`publishing`]: what NOTIFY costs the writers, nudges after the commit, group commit.
//! - [`triggers`]: SQL that notifies, as triggers and in statements, and what it must not do.
//! - [`wake_or_poll`]: workers of a table that are woken by notifications, and poll in case one is lost.

#[cfg(feature = "blocking")]
#[doc = include_str!("blocking.md")]
pub mod blocking {}

#[doc = include_str!("fan_out.md")]
pub mod fan_out {}

#[doc = include_str!("handlers.md")]
pub mod handlers {}

#[cfg(feature = "json")]
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
#[doc = include_str!("json.md")]
pub mod json {}

#[doc = include_str!("listen_cost.md")]
pub mod listen_cost {}

#[doc = include_str!("publishing.md")]
pub mod publishing {}

/// A statement of the chapter about triggers, with its name as the heading.
macro_rules! recipe {
    ($name:literal) => {
        concat!("\n## `", $name, "`\n\n```sql\n", include_str!(concat!("recipes/", $name)), "```\n")
    };
}

// The tests run these files: `tests/postgres/matrix/recipes.rs`.
#[doc = include_str!("triggers.md")]
#[doc = recipe!("notify_change.sql")]
#[doc = recipe!("notify_row.sql")]
#[doc = recipe!("record_change.sql")]
#[doc = recipe!("take_changes.sql")]
#[doc = recipe!("notify_values.sql")]
#[doc = recipe!("update_and_notify.sql")]
pub mod triggers {}

#[doc = include_str!("wake_or_poll.md")]
pub mod wake_or_poll {}
