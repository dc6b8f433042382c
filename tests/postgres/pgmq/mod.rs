//! Queues of pgmq on real servers, with the SQL of two versions of pgmq.

mod attempts;
mod calls;
mod refusals;
mod statements;
mod stopping;
pub(crate) mod support;
mod versions;
mod visibility;
mod waking;
