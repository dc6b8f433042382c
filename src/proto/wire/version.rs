//! Versions of the protocol.

use std::fmt;

/// A protocol version: the major number in the upper, the minor in the lower 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion(pub u32);

impl ProtocolVersion {
    /// Version 3.0, which every supported server and pooler has.
    pub const V3_0: Self = Self(0x0003_0000);
    /// Version 3.1, which is reserved and was never released.
    // N12.
    pub const V3_1: Self = Self(0x0003_0001);
    /// Version 3.2, which PostgreSQL 18 and later have, with secret keys of up to 256 bytes.
    pub const V3_2: Self = Self(0x0003_0002);
    /// Version 3.9999, which will never exist. A client requests it to test that servers and proxies negotiate the version:
    /// they answer with a version that exists.
    pub const GREASE: Self = Self(0x0003_270f);

    /// Returns the major number.
    #[must_use]
    pub const fn major(self) -> u32 {
        self.0 >> 16
    }

    /// Returns the minor number.
    #[must_use]
    pub const fn minor(self) -> u32 {
        self.0 & 0xffff
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.minor())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_two_halves_of_a_word() {
        assert_eq!(ProtocolVersion::V3_2.to_string(), "3.2");
        assert_eq!(ProtocolVersion::GREASE.to_string(), "3.9999");
        assert!(ProtocolVersion::V3_0 < ProtocolVersion::V3_2);
    }
}
