//! `pgbell`: PostgreSQL LISTEN/NOTIFY from the command line.
fn main() {}
