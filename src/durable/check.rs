//! The check of the tables of a log.

use super::names::Names;
use super::payload_type::PayloadType;
use super::session::LogSession;
use crate::error::{Error, ErrorKind};

/// The version of the tables and functions that this version of the crate uses.
pub(super) const VERSION: &str = "1";

/// The columns of the log before the payload. Their order matters: a transaction has its xid before its records have their ids.
const COLUMNS: &str = "xid xid8, id bigint, slot smallint, written_at timestamp with time zone, key text, headers jsonb, payload ";

/// Checks the tables, and returns the type of the payloads.
///
/// # Errors
/// [`ErrorKind::Schema`] with everything that is wrong.
pub(super) async fn check(session: &mut LogSession, names: &Names) -> Result<PayloadType, Error> {
    let rows = session.query(&names.fill(include_str!("sql/check.sql")), &[]).await?;
    let found = rows.get(0).ok_or_else(|| wrong(names, "it has no settings"))?;
    let mut problems = Vec::new();
    match found.get(0) {
        Some(VERSION) => {}
        Some(version) => problems.push(format!(
            "it has the version {version}, and this version of pgbell uses {VERSION}"
        )),
        None => problems.push("it has no settings".to_owned()),
    }
    let payload = found.get(3).and_then(PayloadType::from_sql_name);
    let columns = found.get(1).unwrap_or_default();
    let is_expected = columns.strip_prefix(COLUMNS).and_then(PayloadType::from_sql_name).is_some();
    if !is_expected {
        problems.push(format!(
            "its columns are {columns:?}, and should be {COLUMNS:?} and text, jsonb or bytea"
        ));
    }
    match found.get(2) {
        Some("1") => {}
        cache => problems.push(format!(
            "its ids have a sequence with CACHE {}, and need CACHE 1: ALTER SEQUENCE",
            cache.unwrap_or("unknown")
        )),
    }
    if found.get(4).and_then(|count| count.parse().ok()) < Some(2_u32) {
        problems.push("it has no valid indexes on (id) and (xid, id)".to_owned());
    }
    if let Some(columns) = found.get(6).filter(|columns| !columns.is_empty()) {
        problems.push(format!("other defaults are set for the columns {columns}"));
    }
    if let Some(rights) = found.get(5).filter(|rights| !rights.is_empty()) {
        problems.push(format!("the role lacks {rights}"));
    }
    match payload {
        Some(payload) if problems.is_empty() => Ok(payload),
        _ => Err(wrong(names, &problems.join("; "))),
    }
}

#[cold]
fn wrong(names: &Names, what: &str) -> Error {
    let message = format!("the log {} is not as expected: {what}", names.qualified());
    let hint =
        "run Outbox::init, or `pgbell outbox init`, with the same version of pgbell everywhere";
    Error::new(ErrorKind::Schema, message).with_hint(hint)
}
