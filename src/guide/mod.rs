//! The guide: chapters for users, with examples that are compiled and tested.
//!
//! - [`fan_out`]: one connection for many subscribers, and topics.
//! - [`handlers`]: a function for each channel or topic, with retries and a bounded end.
//! - [`listen_cost`]: what LISTEN and NOTIFY cost the server, and how many channels and connections are too many.
//! - [`publishing`]: what NOTIFY costs the writers, nudges after the commit, group commit.
//! - [`wake_or_poll`]: workers of a table that are woken by notifications, and poll in case one is lost.

#[doc = include_str!("fan_out.md")]
pub mod fan_out {}

#[doc = include_str!("handlers.md")]
pub mod handlers {}

#[doc = include_str!("listen_cost.md")]
pub mod listen_cost {}

#[doc = include_str!("publishing.md")]
pub mod publishing {}

#[doc = include_str!("wake_or_poll.md")]
pub mod wake_or_poll {}
