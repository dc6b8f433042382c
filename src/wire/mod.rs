//! The codec of PostgreSQL's frontend/backend protocol, both directions.
pub mod backend;
pub mod diagnostic;
pub use backend::Authentication;
pub use diagnostic::DbError;
