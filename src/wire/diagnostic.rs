//! ErrorResponse and NoticeResponse. (skeleton)

/// What a server said in an ErrorResponse or NoticeResponse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DbError;
impl DbError {
    /// SQLSTATE.
    #[must_use]
    pub fn code(&self) -> &str {
        ""
    }
    /// Hint.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        None
    }
}
impl std::fmt::Display for DbError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("?")
    }
}
