//! [`Found`]: what a read has returned.

use std::sync::Arc;

use super::command::Claim;
use super::message::Message;
use crate::durable::refusal::malformed;
use crate::error::Error;
use crate::proto::session::Row;

/// The column of the size of a message whose data is left out.
const SIZE_COLUMN: usize = 6;

/// What a read has returned. The server leaves out the data of messages that do not fit into the limit of a result.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) messages: Vec<Message>,
    /// They fit into a result, but not into this one.
    pub(super) left_out: Vec<Claim>,
    /// They fit into none, each with the reason for which it is put aside.
    pub(super) too_large: Vec<(Claim, Arc<str>)>,
    /// There may be more.
    pub(super) is_full: bool,
}

impl Found {
    /// Parses the rows of a read of up to `quantity` messages, of which `limit` bytes fit into the result.
    pub(super) fn from_each<'a>(
        rows: impl Iterator<Item = Row<'a>>,
        quantity: usize,
        limit: u64,
    ) -> Result<Self, Error> {
        let mut found = Self::default();
        let mut count = 0;
        for row in rows {
            count += 1;
            let Some(size) = row.get(SIZE_COLUMN) else {
                found.messages.push(Message::from_row(row).ok_or_else(malformed)?);
                continue;
            };
            let number = |column| row.get(column).and_then(|text: &str| text.parse::<i64>().ok());
            let (Some(msg_id), Some(attempt)) = (number(0), number(1)) else {
                return Err(malformed());
            };
            let attempt = u32::try_from(attempt).map_err(|_| malformed())?;
            let size: u64 = size.parse().map_err(|_| malformed())?;
            let claim = Claim { msg_id, attempt };
            match size > limit {
                false => found.left_out.push(claim),
                true => {
                    let reason = format!(
                        "it has {size} bytes, more than the {limit} that fit into a result"
                    );
                    found.too_large.push((claim, reason.into()));
                }
            }
        }
        found.is_full = count >= quantity;
        Ok(found)
    }
}
