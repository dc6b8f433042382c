//! A log in memory, with the visibility of PostgreSQL.

mod store;
#[cfg(test)]
mod tests;
