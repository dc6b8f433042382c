//! A column of a result.

use super::types::Type;
use crate::proto::wire::Column;

/// A column of a result: its name and the type of its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) of: Type,
}

impl Field {
    pub(super) fn new(name: impl Into<String>, of: Type) -> Self {
        Self { name: name.into(), of }
    }

    /// Returns the column of a RowDescription.
    pub(super) fn column(&self, format: i16) -> Column<'_> {
        Column {
            type_oid: self.of.oid(),
            type_size: self.of.size(),
            format,
            ..Column::text(self.name.as_bytes())
        }
    }
}
