//! [`Position`]: what of a log is acknowledged.
//!
//! A snapshot says which transactions had ended, so the rows that are new are those that are visible now and were not visible then. Two things
//! make them cheap to find, and each has its own number in a position:
//!
//! - `high` is at least as high as every id that was visible. A row with a higher id was not visible, whatever its xid is.
//! - `next` is an xid that was assigned after the snapshot was taken. A transaction from there on allocates its ids later still, so they are
//!   above `high`. The xmax of the snapshot is not enough for this: it is the xid after the last transaction that had *ended*, so transactions
//!   above it may have been in progress, with ids below those that were visible.
//!
//! What is new with an id up to `high` is therefore of a transaction that was in progress: one that the snapshot lists, or one from its xmax to
//! below `next`. These are few.

use std::fmt;

use super::snapshot::{Snapshot, parse_number, parse_xid};

/// What is acknowledged of a log: everything that is visible in `lower`, and of the window, if there is one, the rows up to its `last`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(super) lower: Snapshot,
    /// At least as high as every id that is visible in `lower`.
    pub(super) high: i64,
    /// Above every xid that was assigned when `lower` was taken.
    pub(super) next: u64,
    /// None if the position is at rest.
    pub(super) window: Option<Window>,
}

/// The rows that are visible in `upper` and not in the lower snapshot of the position, read in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    pub(super) upper: Snapshot,
    /// At least as high as every id that is visible in `upper`.
    pub(super) high: i64,
    /// Above every xid that was assigned when `upper` was taken.
    pub(super) next: u64,
    /// The rows of the window up to this id are acknowledged.
    pub(super) last: i64,
}

/// The snapshot up to which a page was read, with its two numbers: read by the statement that opened the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upper {
    pub(super) snapshot: Snapshot,
    pub(super) high: i64,
    pub(super) next: u64,
}

impl Position {
    /// Nothing is acknowledged.
    pub(crate) fn beginning() -> Self {
        Self { lower: Snapshot::empty(), high: 0, next: 1, window: None }
    }

    /// Everything that is visible in this snapshot is acknowledged.
    pub(crate) fn at(upper: Upper) -> Self {
        let Upper { snapshot, high, next } = upper;
        Self { lower: snapshot, high, next, window: None }
    }

    /// A row with this id and xid is not acknowledged, provided that it is visible in the upper snapshot: in that of the window, or in the one
    /// that a position at rest is read with. What is visible is decided by the server.
    pub(crate) fn candidate(&self, id: i64, xid: u64) -> bool {
        let is_in_window = match &self.window {
            Some(window) => window.last < id && id <= window.high,
            None => id > 0,
        };
        let is_late =
            || self.lower.was_in_progress(xid) || self.lower.xmax() <= xid && xid < self.next;
        is_in_window && (id > self.high || is_late())
    }

    /// Returns the position that acknowledges a page, which was read at this position.
    ///
    /// `upper` is what the page was read with: that of the window, if there is one. `last_id` is the id of its last row, and it is full if it has as
    /// many rows as were asked for. After a full page the position is in a window, also if there are no further rows: the next page is then empty.
    pub(crate) fn after_page(&self, upper: &Upper, last_id: Option<i64>, is_full: bool) -> Self {
        match (last_id, &self.window) {
            (Some(last), window) if is_full => {
                let window = window.clone().unwrap_or_else(|| upper.clone().into());
                Self { window: Some(Window { last, ..window }), ..self.clone() }
            }
            // A limit of zero.
            (None, None) if is_full => self.clone(),
            (_, Some(window)) => Self::at(window.clone().into()),
            // Without rows too: nothing is new, so the new snapshot says the same as the old one.
            (_, None) => Self::at(upper.clone()),
        }
    }

    /// Reads the text form: seven fields with a space between each two, `lower high next upper upper_high upper_next last`. The last four are `-`
    /// at rest. Every other text is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        // One field more than is accepted, with the rest of the text in it.
        let mut fields = text.splitn(8, ' ');
        let mut field = || fields.next();
        let lower = parse_upper(field()?, field()?, field()?)?;
        let (upper, high, next, last) = (field()?, field()?, field()?, field()?);
        if field().is_some() {
            return None;
        }
        let window = if [upper, high, next, last] == ["-"; 4] {
            None
        } else {
            let upper = parse_upper(upper, high, next)?;
            let last = parse_id(last)?;
            let is_after_lower = lower.high <= upper.high && lower.next <= upper.next;
            let is_valid = is_after_lower && last <= upper.high;
            Some(is_valid.then_some(Window { last, ..upper.into() })?)
        };
        Some(Self { window, ..Self::at(lower) })
    }
}

fn parse_upper(snapshot: &str, high: &str, next: &str) -> Option<Upper> {
    let (snapshot, high, next) = (Snapshot::parse(snapshot)?, parse_id(high)?, parse_xid(next)?);
    (snapshot.xmax() <= next).then_some(Upper { snapshot, high, next })
}

/// Reads an id, or zero for none.
fn parse_id(text: &str) -> Option<i64> {
    i64::try_from(parse_number(text)?).ok()
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.lower, self.high, self.next)?;
        match &self.window {
            Some(Window { upper, high, next, last }) => write!(f, "{upper} {high} {next} {last}"),
            None => f.write_str("- - - -"),
        }
    }
}

/// Nothing of the window is acknowledged.
impl From<Upper> for Window {
    fn from(upper: Upper) -> Self {
        let Upper { snapshot, high, next } = upper;
        Self { upper: snapshot, high, next, last: 0 }
    }
}

impl From<Window> for Upper {
    fn from(window: Window) -> Self {
        let Window { upper, high, next, last: _ } = window;
        Self { snapshot: upper, high, next }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position(text: &str) -> Position {
        Position::parse(text).unwrap_or_else(|| panic!("{text:?}"))
    }

    fn upper(snapshot: &str, high: i64, next: u64) -> Upper {
        Upper { snapshot: Snapshot::parse(snapshot).unwrap(), high, next }
    }

    #[test]
    fn at_the_beginning_every_row_is_a_candidate() {
        let position = Position::beginning();
        assert_eq!(position.to_string(), "1:1: 0 1 - - - -");
        for (id, xid) in [(1, 1), (1, 900), (i64::MAX, u64::MAX)] {
            assert!(position.candidate(id, xid), "{id} {xid}");
        }
    }

    #[test]
    fn above_the_highest_id_the_xid_does_not_matter() {
        let position = position("10:20:12,15 100 30 - - - -");
        for xid in [5, 10, 11, 12, 19, 20, 29, 30, 1_000] {
            assert!(position.candidate(101, xid), "{xid}");
        }
    }

    #[test]
    fn up_to_the_highest_id_only_transactions_in_progress_are_late() {
        let position = position("10:20:12,15 100 30 - - - -");
        // Listed, and from xmax to below next: in progress when the snapshot was taken.
        for xid in [12, 15, 20, 21, 29] {
            assert!(position.candidate(100, xid) && position.candidate(1, xid), "{xid}");
        }
        // Acknowledged, or of a transaction whose ids are higher.
        for xid in [1, 9, 10, 11, 13, 14, 16, 19, 30, 31] {
            assert!(!position.candidate(100, xid), "{xid}");
        }
    }

    #[test]
    fn in_a_window_the_candidates_are_after_its_last_row_and_not_above_its_highest() {
        let position = position("10:20:12 100 30 25:40:30 200 45 90");
        assert!(!position.candidate(90, 12) && position.candidate(91, 12));
        assert!(!position.candidate(91, 11));
        assert!(position.candidate(101, 11) && position.candidate(200, 11));
        assert!(!position.candidate(201, 11) && !position.candidate(201, 12));
    }

    #[test]
    fn an_empty_page_at_rest_moves_the_position_to_its_snapshot() {
        let position = position("10:20:12 100 30 - - - -");
        let after = position.after_page(&upper("31:32:", 150, 33), None, false);
        assert_eq!(after.to_string(), "31:32: 150 33 - - - -");
        // A limit of zero rows is not a way to skip any.
        assert_eq!(position.after_page(&upper("31:32:", 100, 33), None, true), position);
    }

    #[test]
    fn a_full_page_opens_a_window_and_a_page_that_is_not_full_closes_it() {
        let start = position("10:20:12 100 30 - - - -");
        let first = upper("25:40:30", 200, 45);
        let whole = start.after_page(&first, Some(180), false);
        assert_eq!(whole.to_string(), "25:40:30 200 45 - - - -");

        let window = start.after_page(&first, Some(120), true);
        assert_eq!(window.to_string(), "10:20:12 100 30 25:40:30 200 45 120");
        // Later pages belong to the snapshot of the window, whatever they were read with.
        let later = upper("90:90:", 900, 91);
        let second = window.after_page(&later, Some(150), true);
        assert_eq!(second.to_string(), "10:20:12 100 30 25:40:30 200 45 150");
        for last_id in [Some(200), None] {
            assert_eq!(second.after_page(&later, last_id, false), whole);
        }
        assert_eq!(second.after_page(&later, None, true), whole);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            " ",
            "1:1:",
            "1:1: 0 1",
            "1:1: 0 1 - - -",
            "1:1: 0 1 - - - - ",
            "1:1: 0 1 - - - - -",
            " 1:1: 0 1 - - - -",
            "1:1:  0 1 - - - -",
            "1:1:\t0 1 - - - -",
            "1:1: 0 1 - - - -\n",
            "1:1: 0 1 - - - 0",
            "1:1: 0 1 1:1: - - -",
            "1:1: 0 1 1:1: 0 1 -",
            "- 0 1 - - - -",
            "1:1: - 1 - - - -",
            "1:1: 0 - - - - -",
            "1:1: -1 1 - - - -",
            "1:1: +1 1 - - - -",
            "1:1: 01 1 - - - -",
            "1:1: 00 1 - - - -",
            "1:1: 0 0 - - - -",
            "1:1: 9223372036854775808 1 - - - -",
            "1:1: 0 18446744073709551616 - - - -",
            // next is below xmax: the snapshot is older than itself.
            "10:20: 100 19 - - - -",
            "10:20: 100 30 25:40: 200 39 90",
            // The upper snapshot is below the lower one.
            "10:20: 100 30 25:40: 99 45 90",
            "10:20: 100 50 25:40: 200 45 90",
            // The last row is above the window.
            "10:20: 100 30 25:40: 200 45 201",
        ] {
            assert_eq!(Position::parse(text), None, "{text:?}");
        }
    }

    fn snapshots() -> impl Strategy<Value = Snapshot> {
        let xids = prop::collection::btree_set(1..u64::MAX, 1..9);
        let near = prop::collection::btree_set(1..40_u64, 1..9);
        prop_oneof![xids, near].prop_map(|xids| {
            let xids: Vec<u64> = xids.into_iter().collect();
            let (first, last) = (xids[0], xids[xids.len() - 1]);
            let within = xids[1..].iter().filter(|xid| **xid < last).copied();
            Snapshot::new(first, last, within.collect()).unwrap()
        })
    }

    fn uppers() -> impl Strategy<Value = Upper> {
        (snapshots(), 0..i64::MAX, 0..100_u64).prop_map(|(snapshot, high, above)| {
            let next = snapshot.xmax().saturating_add(above);
            Upper { snapshot, high, next }
        })
    }

    fn positions() -> impl Strategy<Value = Position> {
        (uppers(), prop::option::of((uppers(), 0..i64::MAX))).prop_map(|(lower, window)| {
            let mut position = Position::at(lower);
            position.window = window.map(|(mut upper, last)| {
                upper.high = upper.high.max(position.high);
                upper.next = upper.next.max(position.next);
                Window { last: last.min(upper.high), ..upper.into() }
            });
            position
        })
    }

    proptest! {
        #[test]
        fn a_position_is_read_as_it_was_written(position in positions()) {
            prop_assert_eq!(Position::parse(&position.to_string()), Some(position));
        }

        /// The text has one form only, so two texts are equal exactly if the positions are.
        #[test]
        fn a_text_that_is_read_is_written_unchanged(text in "[-:, 0-9+a]{0,40}|([0-3:,]{4,8} ){0,3}[0-9] [0-9] - - - -") {
            if let Some(position) = Position::parse(&text) {
                prop_assert_eq!(position.to_string(), text);
            }
        }

        #[test]
        fn a_damaged_text_is_refused_or_read_and_written_unchanged(
            position in positions(), at in 0..200_usize, byte in "[-:, 0-9x]?",
        ) {
            let mut text = position.to_string();
            let at = at % text.len();
            text.replace_range(at..=at, &byte);
            if let Some(position) = Position::parse(&text) {
                prop_assert_eq!(position.to_string(), text);
            }
        }

        /// A row that is visible in the lower snapshot has an id up to `high`, and is not delivered again.
        #[test]
        fn what_is_visible_in_the_lower_snapshot_is_no_candidate(
            position in positions(), id in 0..i64::MAX, xid in 1..u64::MAX,
        ) {
            for xid in [xid, xid % 40 + 1, position.lower.xmin(), position.lower.xmax() - 1] {
                if position.lower.contains(xid) {
                    prop_assert!(!position.candidate(id.min(position.high), xid));
                }
            }
        }
    }
}
