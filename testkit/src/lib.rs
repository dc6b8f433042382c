//! Throw-away PostgreSQL clusters for tests and demos.
