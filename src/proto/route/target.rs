//! The check of a server against `target_session_attrs`.

use std::fmt;

use crate::config::TargetSessionAttrs;

/// The properties of a server that `target_session_attrs` is checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerFacts {
    /// The server is a standby: it applies what a primary sends.
    pub in_recovery: bool,
    /// Its sessions do not accept writes by default. This is true of every standby.
    pub read_only: bool,
}

impl ServerFacts {
    /// Returns the facts about a server that is a standby, or whose sessions do not accept writes by default.
    #[must_use]
    pub fn new(in_recovery: bool, read_only: bool) -> Self {
        Self { in_recovery, read_only }
    }
}

/// Why a server is not of the requested kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// It is a standby.
    Standby,
    /// It is a primary.
    Primary,
    /// Its sessions are read-only.
    ReadOnly,
    /// Its sessions accept writes.
    ReadWrite,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standby => "the server is a standby",
            Self::Primary => "the server is a primary",
            Self::ReadOnly => "its sessions are read-only",
            Self::ReadWrite => "its sessions accept writes",
        })
    }
}

/// Checks whether a server is of the `wanted` kind. `prefer-standby` accepts only a standby: if there is none, the caller
/// checks again with `any`.
///
/// # Errors
/// The kind of the server, if it is another one.
pub fn accept(wanted: TargetSessionAttrs, facts: ServerFacts) -> Result<(), Mismatch> {
    use TargetSessionAttrs::{Any, PreferStandby, Primary, ReadOnly, ReadWrite, Standby};
    match (wanted, facts.in_recovery, facts.in_recovery || facts.read_only) {
        (ReadWrite, _, true) => Err(Mismatch::ReadOnly),
        (ReadOnly, _, false) => Err(Mismatch::ReadWrite),
        (Primary, true, _) => Err(Mismatch::Standby),
        (Standby | PreferStandby, false, _) => Err(Mismatch::Primary),
        (Any | ReadWrite | ReadOnly | Primary | Standby | PreferStandby, _, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_accepts_the_servers_that_it_names() {
        use TargetSessionAttrs::*;
        let primary = ServerFacts { in_recovery: false, read_only: false };
        let frozen = ServerFacts { in_recovery: false, read_only: true };
        let standby = ServerFacts { in_recovery: true, read_only: false };
        for (wanted, accepted) in [
            (Any, [true, true, true]),
            (ReadWrite, [true, false, false]),
            (ReadOnly, [false, true, true]),
            (Primary, [true, true, false]),
            (Standby, [false, false, true]),
            (PreferStandby, [false, false, true]),
        ] {
            let found = [primary, frozen, standby].map(|facts| accept(wanted, facts).is_ok());
            assert_eq!(found, accepted, "{wanted}");
        }
    }
}
