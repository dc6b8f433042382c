//! [`Names`]: the tables of a log, and the texts of SQL with their names.

use crate::error::{Error, ErrorKind};

/// The longest name of a table, in bytes. The longest suffix is `_positions`.
const TABLE_BYTES_MAX: usize = 48;

/// The longest name of a channel, in bytes.
const CHANNEL_BYTES_MAX: usize = 63;

/// The relations and functions of a log. Their names consist of letters, digits and underscores, so they need no escaping in any place of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    schema: String,
    table: String,
    qualified: String,
}

impl Names {
    /// Parses `table` or `schema.table`. The schema is `public` by default.
    pub(super) fn parse(name: &str) -> Result<Self, Error> {
        let (schema, table) = name.split_once('.').unwrap_or(("public", name));
        let is_valid = |part: &str| {
            let is_first = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            part.bytes().next().is_some_and(is_first)
                && part.bytes().all(|byte| is_first(byte) || byte.is_ascii_digit())
        };
        let refuse = |why: String| {
            let hint = "for example \"shop.outbox\", or \"outbox\" in the schema public";
            Err(Error::new(ErrorKind::Misuse, why).with_hint(hint))
        };
        if !is_valid(schema) || !is_valid(table) {
            return refuse(format!(
                "the name {name:?} of a log has other characters than a-z, 0-9 and _, or begins with a digit"
            ));
        }
        if table.len() > TABLE_BYTES_MAX || schema.len() + 1 + table.len() > CHANNEL_BYTES_MAX {
            return refuse(format!(
                "the name of a log is longer than {TABLE_BYTES_MAX} bytes, or than {CHANNEL_BYTES_MAX} with its schema"
            ));
        }
        let qualified = format!("{schema}.{table}");
        Ok(Self { schema: schema.to_owned(), table: table.to_owned(), qualified })
    }

    /// Returns `schema.table`, which is the channel of its notifications too.
    pub(super) fn qualified(&self) -> &str {
        &self.qualified
    }

    /// Returns a text with the names in the place of `{log}`, which is the table, and of `{…}`, for example `{ack}`, which are relations and
    /// functions whose names begin with that of the table.
    pub(super) fn fill(&self, template: &str) -> String {
        let mut text = String::with_capacity(2 * template.len());
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            text.push_str(before);
            let Some((name, behind)) = after.split_once('}') else {
                text.push('{');
                rest = after;
                continue;
            };
            text.push_str(&format!("\"{}\".\"{}", self.schema, self.table));
            match name.strip_prefix("log") {
                Some(suffix) => text.push_str(suffix),
                None => {
                    text.push('_');
                    text.push_str(name);
                }
            }
            text.push('"');
            rest = behind;
        }
        text.push_str(rest);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_gets_the_names_of_all_relations() {
        let names = Names::parse("shop.outbox").unwrap();
        let text = names.fill("SELECT '{log_slot}'::regclass FROM {log}, {acks_0} -- {ack}");
        let expected = "SELECT '\"shop\".\"outbox_slot\"'::regclass FROM \"shop\".\"outbox\", \"shop\".\"outbox_acks_0\" -- \"shop\".\"outbox_ack\"";
        assert_eq!(text, expected);
        assert_eq!(Names::parse("outbox").unwrap().qualified(), "public.outbox");
    }

    /// A name is part of SQL texts, in identifiers, literals and bodies of functions.
    #[test]
    fn names_that_could_end_an_identifier_or_a_literal_are_refused() {
        for name in [
            "", ".", "a.", ".a", "a.b.c", "1a", "a b", "a\"b", "a'b", "a$f$", "a-b", "A", "ä",
            "a\0",
        ] {
            let error = Names::parse(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misuse, "{name:?}");
            let hint = "for example \"shop.outbox\", or \"outbox\" in the schema public";
            assert_eq!(error.hint(), Some(hint));
        }
        let longest = "a".repeat(TABLE_BYTES_MAX);
        assert!(Names::parse(&longest).is_ok());
        assert!(Names::parse(&format!("{longest}a")).is_err());
        assert!(Names::parse(&format!("{}.{longest}", "s".repeat(14))).is_ok());
        assert!(Names::parse(&format!("{}.{longest}", "s".repeat(15))).is_err());
    }
}
