//! Records of a log and gaps as text and as JSON, one per line.

use std::io::Write as _;
use std::time::SystemTime;

use pgbell::durable::{LogGap, Record};
use serde::Serialize;

use crate::args::Format;
use crate::record::{decimals, push_data, push_json, push_visible, timestamp};

/// A record as JSON. The order of the fields is the order of the keys.
#[derive(Serialize)]
struct JsonRecord<'a> {
    id: i64,
    key: &'a str,
    payload: &'a str,
    headers: Option<&'a str>,
    written_at: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum JsonLoss {
    Gap { first_id: i64, last_id: i64, records: u64 },
}

pub(super) fn push(record: &Record<'_>, format: Format, out: &mut Vec<u8>) {
    let written_at = &timestamp(record.written_at(), decimals(format));
    if format == Format::Json {
        let (id, key, payload) = (record.id(), record.key(), record.payload());
        let headers = record.headers();
        return push_json(&JsonRecord { id, key, payload, headers, written_at }, out);
    }
    out.extend_from_slice(written_at.as_bytes());
    out.push(b' ');
    push_data(record.key(), |c| c == ' ', out);
    // Writing to a Vec does not fail.
    let _ = write!(out, " #{} ", record.id());
    push_data(record.payload(), |_| false, out);
    out.push(b'\n');
}

/// In text the time of a gap is `now`, because it has none.
pub(super) fn push_gap(gap: LogGap, now: SystemTime, format: Format, out: &mut Vec<u8>) {
    if format == Format::Json {
        let (first_id, last_id, records) = (gap.first(), gap.last(), gap.records());
        return push_json(&JsonLoss::Gap { first_id, last_id, records }, out);
    }
    out.extend_from_slice(timestamp(now, decimals(format)).as_bytes());
    out.extend_from_slice(b" ~ ");
    push_visible(&describe(gap), out);
    out.push(b'\n');
}

/// Returns the text of a gap, in one line.
pub(super) fn describe(gap: LogGap) -> String {
    format!("gap: {gap}")
}
