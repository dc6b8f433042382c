//! [`Snapshot`]: which transactions had ended at one moment.

use std::fmt;

/// The highest number of transactions in progress that a text may name: twice `MAX_BACKENDS` of PostgreSQL (`procnumber.h`), for the sessions
/// and for the prepared transactions.
const IN_PROGRESS_MAX: usize = 2 * 0x3_FFFF;

/// A snapshot of PostgreSQL, as `pg_snapshot` has it. All xids are those of top-level transactions, with their epoch (`xid8`).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Every transaction below has ended.
    xmin: u64,
    /// The xid after the last one that had ended. No transaction from here on is contained, and some may be in progress.
    xmax: u64,
    /// The transactions from `xmin` to below `xmax` that were in progress, in ascending order.
    xip: Vec<u64>,
}

impl Snapshot {
    /// The snapshot that contains no transaction: the lowest xid is 1.
    pub(crate) fn empty() -> Self {
        Self { xmin: 1, xmax: 1, xip: Vec::new() }
    }

    /// Returns none unless `0 < xmin <= xmax`, and `xip` is in strictly ascending order and from `xmin` to below `xmax`.
    pub(crate) fn new(xmin: u64, xmax: u64, xip: Vec<u64>) -> Option<Self> {
        let is_ascending = xip.windows(2).all(|pair| pair[0] < pair[1]);
        let is_within = xip.first().is_none_or(|first| xmin <= *first)
            && xip.last().is_none_or(|last| *last < xmax);
        let is_valid = 0 < xmin && xmin <= xmax && is_ascending && is_within;
        (is_valid && xip.len() <= IN_PROGRESS_MAX).then_some(Self { xmin, xmax, xip })
    }

    /// Reads the text form of `pg_snapshot`, `xmin:xmax:xip,xip`, exactly as a server writes it. Everything else is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (xmin, rest) = text.split_once(':')?;
        let (xmax, in_progress) = rest.split_once(':')?;
        let xip = match in_progress {
            "" => Vec::new(),
            listed => {
                // One more than is accepted is enough to refuse the text.
                let listed = listed.split(',').take(IN_PROGRESS_MAX + 1);
                listed.map(parse_xid).collect::<Option<_>>()?
            }
        };
        Self::new(parse_xid(xmin)?, parse_xid(xmax)?, xip)
    }

    /// The transaction had ended when the snapshot was taken: if it has committed, its rows are visible.
    pub(crate) fn contains(&self, xid: u64) -> bool {
        xid < self.xmin || xid < self.xmax && !self.was_in_progress(xid)
    }

    /// The snapshot names the transaction as one in progress.
    pub(crate) fn was_in_progress(&self, xid: u64) -> bool {
        self.xip.binary_search(&xid).is_ok()
    }

    #[cfg(test)]
    pub(crate) fn xmin(&self) -> u64 {
        self.xmin
    }

    pub(crate) fn xmax(&self) -> u64 {
        self.xmax
    }

    pub(crate) fn xip(&self) -> &[u64] {
        &self.xip
    }
}

/// Reads an xid. Zero is none.
pub(super) fn parse_xid(text: &str) -> Option<u64> {
    parse_number(text).filter(|xid| *xid > 0)
}

/// Reads a number in the only form in which it is written: without a sign and without leading zeros.
pub(super) fn parse_number(text: &str) -> Option<u64> {
    let is_written_so =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_written_so { text.parse().ok() } else { None }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (index, xid) in self.xip.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{xid}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_contains_what_had_ended() {
        let snapshot = Snapshot::parse("10:20:12,15,19").unwrap();
        assert_eq!((snapshot.xmin(), snapshot.xmax()), (10, 20));
        assert_eq!(snapshot.xip(), [12, 15, 19]);
        for xid in [1, 9, 10, 11, 13, 14, 16, 18] {
            assert!(snapshot.contains(xid), "{xid}");
        }
        for xid in [12, 15, 19, 20, 21, u64::MAX] {
            assert!(!snapshot.contains(xid), "{xid}");
        }
        // 20 may have been in progress, but a snapshot names those below its xmax only.
        assert!(snapshot.was_in_progress(12) && !snapshot.was_in_progress(20));
        assert!((1..50).all(|xid| !Snapshot::empty().contains(xid)));
    }

    /// The xmin is lower than every listed xid if the session that takes the snapshot has an xid itself.
    #[test]
    fn the_texts_of_servers_are_read_and_written_unchanged() {
        let most = u64::MAX.to_string();
        let long = format!("1:{most}:1,2,{}", u64::MAX - 1);
        for text in ["1:1:", "3:3:", "10:20:10,14,15", "747:750:", "747:750:748", &long] {
            let snapshot = Snapshot::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(snapshot.to_string(), text);
            assert_eq!(format!("{snapshot:?}"), text);
        }
        assert_eq!(Snapshot::parse("1:1:"), Some(Snapshot::empty()));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            ":",
            "::",
            "10",
            "10:20",
            "10:20:,",
            "10:20:12,",
            "10:20:,12",
            "10:20:12,,13",
            "10:20:12:13",
            "10:20:12 ,13",
            " 10:20:",
            "10:20: ",
            "10:20:\n",
            "+10:20:",
            "-10:20:",
            "10:+20:",
            "10:20:+12",
            "0x10:20:",
            "010:20:",
            "10:20:012",
            "a:20:",
            "１０:20:",
            "18446744073709551616:18446744073709551616:",
            // Zero is no xid.
            "0:0:",
            "0:5:",
            "0:5:0",
            // xmin is above xmax.
            "21:20:",
            // Not in ascending order.
            "10:20:15,12",
            "10:20:12,12",
            // Below xmin, and not below xmax.
            "10:20:9",
            "10:20:9,12",
            "10:20:20",
            "10:20:12,25",
            "10:10:10",
        ] {
            assert_eq!(Snapshot::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_text_with_more_transactions_than_a_server_can_have_is_refused() {
        let text = |count: usize| {
            let xip: Vec<_> = (1..=count).map(|xid| xid.to_string()).collect();
            format!("1:9999999:{}", xip.join(","))
        };
        let snapshot = Snapshot::parse(&text(IN_PROGRESS_MAX)).unwrap();
        assert_eq!(snapshot.xip().len(), IN_PROGRESS_MAX);
        assert_eq!(Snapshot::parse(&text(IN_PROGRESS_MAX + 1)), None);
    }
}
