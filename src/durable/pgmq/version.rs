//! [`Version`]: which pgmq a database has.

use std::fmt;

use super::refusal::{explained, missing_pgmq, unknown_version};
use crate::connection::Connection;
use crate::durable::refusal::malformed;
use crate::error::Error;
use crate::proto::session::Rows;

/// The statement that finds the version.
pub(super) const VERSION_SQL: &str = include_str!("sql/version.sql");

/// The version of the pgmq that a database has.
///
/// pgmq can be installed as an extension, whose version the server knows, or as plain SQL. Then the version is that of the newest function or
/// column that exists, so it may be one that is released later: the SQL between two releases has functions of the later one.
///
/// | version | what it adds |
/// |---|---|
/// | 1.5 | headers of messages; the oldest version that pgbell uses. It creates queues only as an extension |
/// | 1.6 | queues that are created without the extension |
/// | 1.7 | notifications of inserts |
/// | 1.8 | their throttle |
/// | 1.10 | the time of the last read. It cannot read queues that an earlier version has created, and 1.10.0 creates some that it cannot read |
/// | 1.11 | topics; it reads all queues |
/// | 1.13 | the newest version that was tested |
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// use pgbell::Connection;
/// use pgbell::durable::pgmq::Version;
///
/// let mut connection = Connection::connect("postgres://localhost/shop").await?;
/// let version = Version::of(&mut connection).await?;
/// println!("pgmq {version}, notifications: {}", version.has_notifications());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    major: u32,
    minor: u32,
}

/// The oldest version whose functions have the signatures that are used here.
const OLDEST: Version = Version { major: 1, minor: 5 };

impl Version {
    /// Finds the version.
    ///
    /// # Errors
    /// [`ErrorKind::Schema`](crate::ErrorKind::Schema) if there is no pgmq, if it is older than 1.5 or of another major version, or if it lacks a
    /// function; otherwise the error of the session or the server.
    ///
    /// # Cancel safety
    /// It changes nothing.
    pub async fn of(connection: &mut Connection) -> Result<Self, Error> {
        Self::from_rows(&connection.query(VERSION_SQL, &[]).await.map_err(explained)?)
    }

    pub(super) fn from_rows(rows: &Rows) -> Result<Self, Error> {
        let row = rows.get(0).ok_or_else(malformed)?;
        if row.get(1) != Some("t") {
            return Err(missing_pgmq());
        }
        let text = match (row.get(0), row.get(2)) {
            (Some(of_extension), _) => of_extension,
            (None, Some(of_functions)) => of_functions,
            (None, None) => return Err(unknown_version("older than 1.5")),
        };
        let version = Self::parse(text).ok_or_else(|| unknown_version(text))?;
        if version < OLDEST || version.major != OLDEST.major {
            return Err(unknown_version(text));
        }
        match row.get(3) {
            Some(lacks) => Err(unknown_version(&format!("{text}, without {lacks}"))),
            None => Ok(version),
        }
    }

    /// Parses `1.11.0`.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(|number| number.parse().ok());
        Some(Self { major: numbers.next()??, minor: numbers.next()?? })
    }

    /// Returns the first number.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Returns the second number.
    #[must_use]
    pub fn minor(&self) -> u32 {
        self.minor
    }

    /// Returns whether pgmq can send a notification for an insert: from 1.7 on.
    #[must_use]
    pub fn has_notifications(&self) -> bool {
        self.minor >= 7
    }

    /// Returns whether these notifications are throttled: from 1.8 on.
    #[must_use]
    pub fn has_throttle(&self) -> bool {
        self.minor >= 8
    }
}

/// Writes the two numbers: `1.13`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_parsed_and_compared_by_number() {
        let parse = |text| Version::parse(text).unwrap();
        assert_eq!(parse("1.11.0").to_string(), "1.11");
        assert!(parse("1.10.1") > parse("1.9.0"));
        assert!(!parse("1.6.1").has_notifications() && parse("1.7.0").has_notifications());
        assert!(!parse("1.7.1").has_throttle() && parse("1.8.0").has_throttle());
        for text in ["", "1", "1.", "x.1", "1.x", "1.-1"] {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
    }
}
