//! A column of a result.

use super::types::Type;
use crate::proto::wire::ColumnDescription;

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
    pub(super) fn column(&self, format: i16) -> ColumnDescription<'_> {
        ColumnDescription {
            type_oid: self.of.oid(),
            type_size: self.of.size(),
            format,
            ..ColumnDescription::text(self.name.as_bytes())
        }
    }
}
