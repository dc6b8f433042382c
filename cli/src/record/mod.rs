//! Records: notifications and losses as text and as JSON.

mod escape;
mod loss;
mod notification;
mod time;

use serde::Serialize;

pub(crate) use self::escape::{push_data, push_visible};
pub(crate) use self::loss::{describe, push_json_loss, time_of};
pub(crate) use self::notification::Item;
pub(crate) use self::time::{Clock, JSON_DECIMALS, TEXT_DECIMALS, TimeStyle, timestamp};
use crate::args::Format;
use crate::json;

/// Returns the decimals of a second of a format.
pub(crate) fn decimals(format: Format) -> usize {
    match format {
        Format::Text => TEXT_DECIMALS,
        Format::Json => JSON_DECIMALS,
    }
}

/// Appends a value as JSON, in one line.
pub(crate) fn push_json(record: &impl Serialize, out: &mut Vec<u8>) {
    // Neither writing to a Vec nor serialising strings and numbers fails.
    let _ = json::write(record, &mut *out);
    out.push(b'\n');
}
