//! [`PayloadType`]: the type of the payloads of a log.

use std::fmt;

/// The type of the payloads of a log. It is set when the log is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PayloadType {
    /// `text`
    Text,
    /// `jsonb`
    #[default]
    Json,
    /// `bytea`
    Bytea,
}

impl PayloadType {
    /// Returns the name of the type in SQL.
    #[must_use]
    pub fn sql_name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "jsonb",
            Self::Bytea => "bytea",
        }
    }

    pub(super) fn from_sql_name(name: &str) -> Option<Self> {
        [Self::Text, Self::Json, Self::Bytea].into_iter().find(|one| one.sql_name() == name)
    }

    /// Returns the expression that reads a payload as text. That of bytea does not depend on the setting `bytea_output`.
    pub(super) fn text_of_payload(self) -> &'static str {
        match self {
            Self::Text => "payload",
            Self::Json => "payload::text",
            Self::Bytea => "encode(payload, 'hex')",
        }
    }
}

impl fmt::Display for PayloadType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sql_name())
    }
}
