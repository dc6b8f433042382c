//! Other drivers, measured beside pgbell in one run.
fn main() {}
