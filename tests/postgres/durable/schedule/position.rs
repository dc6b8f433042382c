//! [`StoredPosition`]: the part of a receipt up to which a cursor reads, compared with the model.

use super::fault::{Fault, RunFailure};
use super::model::{ModelCursor, ModelLog};

/// The snapshot up to which a cursor reads, with its highest id and the xid that was assigned after it.
#[derive(Debug, Clone)]
pub(super) struct StoredPosition {
    xmin: u64,
    pub(super) xmax: u64,
    xip: Vec<u64>,
    pub(super) high: i64,
    pub(super) next: u64,
}

impl StoredPosition {
    /// Parses the text of a receipt: `cursor seq token nonce lower high next upper upper_high upper_next last`.
    pub(super) fn of_receipt(receipt: &str) -> Option<Self> {
        let fields: Vec<&str> = receipt.split(' ').collect();
        let upper = if *fields.get(7)? == "-" { fields.get(4..7)? } else { fields.get(7..10)? };
        let mut parts = upper[0].split(':');
        let mut part = || parts.next();
        let (xmin, xmax) = (part()?.parse().ok()?, part()?.parse().ok()?);
        let xip = part()?.split(',').filter(|xid| !xid.is_empty());
        let xip = xip.map(|xid| xid.parse().ok()).collect::<Option<Vec<u64>>>()?;
        Some(Self { xmin, xmax, xip, high: upper[1].parse().ok()?, next: upper[2].parse().ok()? })
    }

    /// The transaction had ended.
    fn contains(&self, xid: u64) -> bool {
        xid < self.xmin || xid < self.xmax && !self.xip.contains(&xid)
    }

    /// The snapshot lists the transaction as one in progress.
    pub(super) fn lists(&self, xid: u64) -> bool {
        self.xip.contains(&xid)
    }

    /// Checks a position against the cursor of the model. `open` are the records of transactions in progress, and `highest_xid` is the highest
    /// one that was assigned before the read.
    pub(super) fn check<'a>(
        &self,
        cursor: &ModelCursor,
        log: &ModelLog,
        open: impl Iterator<Item = (i64, u64)> + 'a,
        highest_xid: u64,
    ) -> Result<(), RunFailure> {
        let fail =
            |what: String| Err(RunFailure::new(Fault::Position, format!("{what}: {self:?}")));
        let committed = log.iter().map(|record| (record.id, record.xid));
        for (id, xid) in committed.chain(open) {
            let is_in_model = cursor.upper().contains(&id);
            if self.contains(xid) != is_in_model {
                return fail(format!(
                    "record {id} of {xid} is visible, not visible: {is_in_model}"
                ));
            } else if is_in_model && id > self.high {
                return fail(format!("record {id} is above the highest id"));
            }
        }
        if self.next <= highest_xid {
            return fail(format!("{highest_xid} was assigned before"));
        } else if self.next < self.xmax {
            return fail("the next xid is below xmax".to_owned());
        }
        Ok(())
    }
}
