//! A network that fails silently, between two network namespaces of Linux, and names whose addresses change, in a mount
//! namespace. `scripts/chaos.sh network` runs these tests, which need root and iproute2; `./test.sh` runs them if it has both.
//! They are not part of the ordinary tests.

#![cfg(target_os = "linux")]

mod dead;
mod names;
mod namespaces;
#[path = "../queries/mod.rs"]
mod queries;
#[path = "../postgres/chaos/sequence.rs"]
#[expect(dead_code, reason = "only the tests of many disconnects receive in the background")]
mod sequence;
#[path = "../postgres/support.rs"]
#[expect(dead_code, reason = "shared with the tests on loopback, which need more of it")]
mod support;
