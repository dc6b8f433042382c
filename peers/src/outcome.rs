//! The result type of this program.

/// A failure of any of the drivers, or of the run itself.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) type Outcome<T> = Result<T, Failure>;
