//! The types of values, by their object ids in `pg_type`.

/// A type. It can have any object id; the backend can convert values of those with a name here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Type(pub(super) u32);

impl Type {
    pub(super) const UNSPECIFIED: Self = Self(0);
    pub(super) const BOOL: Self = Self(16);
    pub(super) const BYTEA: Self = Self(17);
    pub(super) const NAME: Self = Self(19);
    pub(super) const INT8: Self = Self(20);
    pub(super) const INT2: Self = Self(21);
    pub(super) const INT4: Self = Self(23);
    pub(super) const TEXT: Self = Self(25);
    pub(super) const OID: Self = Self(26);
    pub(super) const JSON: Self = Self(114);
    pub(super) const FLOAT4: Self = Self(700);
    pub(super) const FLOAT8: Self = Self(701);
    pub(super) const UNKNOWN: Self = Self(705);
    pub(super) const BPCHAR: Self = Self(1_042);
    pub(super) const VARCHAR: Self = Self(1_043);
    pub(super) const DATE: Self = Self(1_082);
    pub(super) const TIMESTAMP: Self = Self(1_114);
    pub(super) const TIMESTAMPTZ: Self = Self(1_184);
    pub(super) const VOID: Self = Self(2_278);
    pub(super) const UUID: Self = Self(2_950);
    pub(super) const JSONB: Self = Self(3_802);

    pub(super) const fn oid(self) -> u32 {
        self.0
    }

    fn row(self) -> Option<&'static Row> {
        TYPES.iter().find(|row| row.of == self)
    }

    /// Returns `typlen` of `pg_type`: bytes, or -1 for a variable length.
    pub(super) fn size(self) -> i16 {
        self.row().map_or(-1, |row| row.size)
    }

    /// Returns the element type of an array type.
    pub(super) fn element(self) -> Option<Self> {
        TYPES.iter().find(|row| row.array == Some(self)).map(|row| row.of)
    }

    /// Returns the type with an SQL name, or its array type.
    pub(super) fn named(name: &str, array: bool) -> Option<Self> {
        let row = TYPES.iter().find(|row| row.names.contains(&name))?;
        if array { row.array } else { Some(row.of) }
    }

    /// Returns the name for messages and unnamed columns.
    pub(super) fn name(self) -> &'static str {
        self.row().and_then(|row| row.names.first()).copied().unwrap_or("text")
    }

    /// Returns the array types with their element types.
    pub(super) fn arrays() -> impl Iterator<Item = (Self, Self)> {
        TYPES.iter().filter_map(|row| Some((row.of, row.array?)))
    }
}

/// A row of `pg_type`, with the SQL names of the type: its own first.
struct Row {
    of: Type,
    names: &'static [&'static str],
    size: i16,
    array: Option<Type>,
}

const fn row(of: Type, names: &'static [&'static str], size: i16, array: u32) -> Row {
    Row { of, names, size, array: Some(Type(array)) }
}

/// Sorted by object id.
const TYPES: &[Row] = &[
    row(Type::BOOL, &["bool", "boolean"], 1, 1_000),
    row(Type::BYTEA, &["bytea"], -1, 1_001),
    row(Type::NAME, &["name"], 64, 1_003),
    row(Type::INT8, &["int8", "bigint"], 8, 1_016),
    row(Type::INT2, &["int2", "smallint"], 2, 1_005),
    row(Type::INT4, &["int4", "int", "integer"], 4, 1_007),
    row(Type::TEXT, &["text"], -1, 1_009),
    row(Type::OID, &["oid"], 4, 1_028),
    row(Type::JSON, &["json"], -1, 199),
    row(Type::FLOAT4, &["float4", "real"], 4, 1_021),
    row(Type::FLOAT8, &["float8"], 8, 1_022),
    Row { of: Type::UNKNOWN, names: &["unknown"], size: -2, array: None },
    row(Type::BPCHAR, &["bpchar"], -1, 1_014),
    row(Type::VARCHAR, &["varchar"], -1, 1_015),
    row(Type::DATE, &["date"], 4, 1_182),
    row(Type::TIMESTAMP, &["timestamp"], 8, 1_115),
    row(Type::TIMESTAMPTZ, &["timestamptz"], 8, 1_185),
    Row { of: Type::VOID, names: &["void"], size: 4, array: None },
    row(Type::UUID, &["uuid"], 16, 2_951),
    row(Type::JSONB, &["jsonb"], -1, 3_807),
];
