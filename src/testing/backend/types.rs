//! The types of values, by their object ids in `pg_type`.

/// A type. Any object id is one; the backend computes with those that have a name here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Type(pub(super) u32);

impl Type {
    pub(super) const BOOL: Self = Self(16);
    pub(super) const INT8: Self = Self(20);
    pub(super) const INT2: Self = Self(21);
    pub(super) const INT4: Self = Self(23);
    pub(super) const TEXT: Self = Self(25);
    pub(super) const OID: Self = Self(26);
    pub(super) const FLOAT4: Self = Self(700);
    pub(super) const FLOAT8: Self = Self(701);
    pub(super) const TEXT_ARRAY: Self = Self(1_009);
    pub(super) const DATE: Self = Self(1_082);
    pub(super) const TIMESTAMP: Self = Self(1_114);
    pub(super) const TIMESTAMPTZ: Self = Self(1_184);
    pub(super) const VOID: Self = Self(2_278);
    pub(super) const UUID: Self = Self(2_950);

    pub(super) const fn oid(self) -> u32 {
        self.0
    }

    /// `typlen` of `pg_type`: bytes, or -1 where they vary. It is known for the common types: -1 for all others.
    pub(super) const fn size(self) -> i16 {
        match self {
            Self::BOOL => 1,
            Self::INT2 => 2,
            Self::INT4 | Self::OID | Self::FLOAT4 | Self::DATE | Self::VOID => 4,
            Self::INT8 | Self::FLOAT8 | Self::TIMESTAMP | Self::TIMESTAMPTZ => 8,
            Self::UUID => 16,
            _ => -1,
        }
    }
}
