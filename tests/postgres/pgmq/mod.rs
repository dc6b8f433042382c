//! Queues of pgmq on real servers, with the SQL of two versions of pgmq.

mod attempts;
mod calls;
mod events;
mod locks;
mod refusals;
mod sizes;
mod statements;
mod stopping;
pub(crate) mod support;
mod tables;
mod versions;
mod visibility;
mod waking;
