//! The codec of PostgreSQL's frontend/backend protocol, both directions.
pub mod backend;
pub mod diagnostic;
pub use backend::Authentication;
pub use diagnostic::DbError;
/// stub
#[derive(Debug, Clone, Copy)]
pub struct RawNotification<'a> {
    /// pid
    pub process_id: i32,
    /// c
    pub channel: &'a [u8],
    /// p
    pub payload: &'a [u8],
}
/// stub
#[derive(Debug, Clone)]
pub struct Notifications<'a>(&'a [u8]);
impl<'a> Iterator for Notifications<'a> {
    type Item = RawNotification<'a>;
    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}
/// stub
pub fn frames(b: &[u8]) -> Notifications<'_> {
    Notifications(b)
}
