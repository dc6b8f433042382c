//! The guide: chapters for users, with examples that are compiled and tested.
//!
#![cfg_attr(feature = "blocking", doc = "- [`blocking`]: threads without async.")]
//! - [`existing_queues`]: wake-ups beside pgmq, River, graphile-worker and queues that are written by hand.
//! - [`fan_out`]: one connection for many subscribers, and topics.
//! - [`handlers`]: a function for each channel or topic, with retries and a bounded end.
//! - `json`, with the feature `json`: payloads as values of your types, and topics that are fields of them.
//! - [`listen_cost`]: what LISTEN and NOTIFY cost the server, and how many channels and connections are too many.
//! - [`publishing`]: what NOTIFY costs the writers, nudges after the commit, group commit.
//! - [`wake_or_poll`]: workers of a table that are woken by notifications, and poll in case one is lost.

#[cfg(feature = "blocking")]
#[doc = include_str!("blocking.md")]
pub mod blocking {}

#[doc = include_str!("existing_queues.md")]
pub mod existing_queues {}

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

#[doc = include_str!("wake_or_poll.md")]
pub mod wake_or_poll {}
