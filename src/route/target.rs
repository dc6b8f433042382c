//! Whether a server is of the kind that was asked for.

use std::fmt;

use crate::config::TargetSessionAttrs;

/// What a server is, as far as that decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerFacts {
    /// It is a standby: it applies what a primary sends.
    pub in_recovery: bool,
    /// Its sessions do not accept writes by default. So it is with every standby.
    pub read_only: bool,
}

/// What is wrong with a server.
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

/// Whether a server is what `wanted` asks for. `prefer-standby` asks for a standby; when there is none,
/// the caller asks once more, for `any`.
///
/// # Errors
/// What it is instead.
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
    fn each_wish_takes_what_it_names() {
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
