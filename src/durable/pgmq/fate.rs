//! [`Fates`]: what a statement has done with each of its jobs.

use crate::durable::refusal::malformed;
use crate::error::Error;
use crate::proto::session::Row;

/// What a statement has done with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Changed,
    /// A transaction has the row locked, or has just changed it: a later statement finds out which.
    Locked,
    /// It is not in the queue any more.
    Removed,
    /// Another reader has read it since.
    Taken,
}

/// What a statement has done with each of its jobs.
#[derive(Debug, Clone, Default)]
pub(super) struct Fates {
    /// Sorted by id.
    fates: Vec<(i64, Fate)>,
}

impl Fates {
    pub(super) fn new(fates: impl IntoIterator<Item = (i64, Fate)>) -> Self {
        let mut fates: Vec<_> = fates.into_iter().collect();
        fates.sort_unstable_by_key(|(msg_id, _)| *msg_id);
        Self { fates }
    }

    /// Parses rows of an id, and of the fate in the column `column`.
    pub(super) fn from_each<'a>(
        rows: impl Iterator<Item = Row<'a>>,
        column: usize,
    ) -> Result<Self, Error> {
        let fate = |row: Row<'a>| {
            let fate = match row.get(column) {
                Some("changed") => Fate::Changed,
                Some("locked") => Fate::Locked,
                Some("taken") => Fate::Taken,
                None => Fate::Removed,
                Some(_) => return None,
            };
            Some((row.get(0)?.parse().ok()?, fate))
        };
        let fates = rows.map(fate).collect::<Option<Vec<_>>>();
        fates.map(Self::new).ok_or_else(malformed)
    }

    /// Returns the fate of a job. The statement answers for each of them.
    pub(super) fn of(&self, msg_id: i64) -> Fate {
        match self.fates.binary_search_by_key(&msg_id, |(msg_id, _)| *msg_id) {
            Ok(index) => self.fates[index].1,
            Err(_) => Fate::Taken,
        }
    }
}
