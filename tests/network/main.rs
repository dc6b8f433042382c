//! A network that dies without a word, between two network namespaces of Linux, and names whose addresses change, in a
//! mount namespace.
//!
//! `scripts/chaos.sh network` runs these tests, which need root and iproute2; `./test.sh` runs them where it has both.
//! Nothing else does: an ordinary user who runs all tests has no use for them.

#![cfg(target_os = "linux")]

mod dead;
mod names;
mod namespaces;
#[path = "../queries/mod.rs"]
mod queries;
#[path = "../postgres/chaos/sequence.rs"]
#[expect(dead_code, reason = "what receives in the background is for tests of many disconnects")]
mod sequence;
#[path = "../postgres/support.rs"]
#[expect(dead_code, reason = "shared with the tests on loopback, which need more of it")]
mod support;
