//! Catalogue queries that drivers send by themselves.

use super::field::Field;
use super::select::Value;
use super::token::Token;
use super::types::Type;

/// The query that postgres.js sends when it connects (`fetch_types`).
const ARRAY_TYPES: &str = "select b . oid , b . typarray from pg_catalog . pg_type a \
    left join pg_catalog . pg_type b on b . oid = a . typelem where a . typcategory = 'A' \
    group by b . oid , b . typarray order by b . oid";

/// A query on the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CatalogueQuery {
    /// Types and their array types.
    ArrayTypes,
}

impl CatalogueQuery {
    /// Returns the query, if the backend has an answer to it.
    pub(super) fn of(tokens: &[Token<'_>]) -> Option<Self> {
        let found = tokens.iter().map(|token| token.raw);
        let expected = ARRAY_TYPES.split_whitespace();
        let is_it = found.map(str::to_ascii_lowercase).eq(expected.map(str::to_ascii_lowercase));
        is_it.then_some(Self::ArrayTypes)
    }

    pub(super) fn fields(self) -> Vec<Field> {
        match self {
            Self::ArrayTypes => {
                vec![Field::new("oid", Type::OID), Field::new("typarray", Type::OID)]
            }
        }
    }

    pub(super) fn rows(self) -> Vec<Vec<Value>> {
        match self {
            Self::ArrayTypes => {
                let row = |(of, array): (Type, Type)| {
                    vec![Some(of.oid().to_string()), Some(array.oid().to_string())]
                };
                Type::arrays().map(row).collect()
            }
        }
    }
}
