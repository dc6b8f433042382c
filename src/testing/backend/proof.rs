//! The one query with an aggregate that is understood: how many channels a session listens to, and a digest.

use std::collections::BTreeSet;

use md5::{Digest, Md5};

use super::select::Value;
use super::token::{Kind, Token};

/// Its tokens, without `pg_catalog.` before the functions.
const TOKENS: &str = "select count ( * ) , md5 ( convert_to ( string_agg ( c , ',' order by \
    convert_to ( c , 'UTF8' ) ) , 'UTF8' ) ) from pg_listening_channels ( ) as c";

/// The columns that it returns.
pub(super) const COLUMNS: [&str; 2] = ["count", "md5"];

/// Whether it is this query.
pub(super) fn is_proof(tokens: &[Token<'_>]) -> bool {
    let mut expected = TOKENS.split_whitespace();
    let mut rest = tokens.iter();
    while let Some(token) = rest.next() {
        if matches!(&token.kind, Kind::Word(word) if word == "pg_catalog") {
            rest.next();
        } else if expected.next().is_none_or(|word| !word.eq_ignore_ascii_case(token.raw)) {
            return false;
        }
    }
    expected.next().is_none()
}

/// Its only row.
pub(super) fn row(channels: &BTreeSet<String>) -> Vec<Value> {
    let all: Vec<&str> = channels.iter().map(String::as_str).collect();
    let digest = Md5::digest(all.join(","));
    let hex = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![Some(all.len().to_string()), (!all.is_empty()).then_some(hex)]
}
