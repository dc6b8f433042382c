//! [`Fates`]: what a statement has done with each of its jobs.

use super::command::Claim;
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

    /// Parses the rows of the jobs that were not changed. The others of `jobs` were.
    pub(super) fn of_jobs<'a>(
        jobs: &[Claim],
        unchanged: impl Iterator<Item = Row<'a>>,
        column: usize,
    ) -> Result<Self, Error> {
        let unchanged = Self::from_each(unchanged, column)?;
        Ok(Self::new(
            jobs.iter().map(|job| (job.msg_id, unchanged.get(job.msg_id).unwrap_or(Fate::Changed))),
        ))
    }

    /// Returns the fate of a job. The statement answers for each of them.
    pub(super) fn of(&self, msg_id: i64) -> Fate {
        self.get(msg_id).unwrap_or(Fate::Taken)
    }

    fn get(&self, msg_id: i64) -> Option<Fate> {
        let found = self.fates.binary_search_by_key(&msg_id, |(msg_id, _)| *msg_id);
        found.ok().and_then(|index| self.fates.get(index)).map(|(_, fate)| *fate)
    }
}
