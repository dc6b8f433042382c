//! A simulator of writers and readers of a log, in one thread, without I/O and without a clock. A seed determines the whole run.
//!
//! ```text
//! writers: begin, write, commit, abort ─▶ Store ─▶ readers: page, acknowledge, rewind, drain
//! foreign transactions: an xid, no rows ──┘ ▲                     │
//!                                TRUNCATE ──┴── acknowledged ◀────┘
//! ```
//! The position and the snapshot are the real ones; the [store](crate::durable::memory::store) has PostgreSQL's visibility. The [journal](journal) knows
//! what has committed, and checks each acknowledged page. The [rivals](reader::Method) are the usual wrong ways to read a log: they show that the
//! simulator can see their faults.
//!
//! `PGBELL_SEED=n` replays one run and prints its steps; `PGBELL_SEEDS=n` runs `n` seeds.

mod cases;
mod fault;
mod journal;
mod reader;
mod run;
mod tests;
mod writers;
