//! [`MirrorSnapshot`]: the content of a mirror at one moment.

use std::fmt;
use std::sync::Arc;

use super::store::Values;

/// The rows of a [`Mirror`](crate::durable::Mirror) at one moment, in no order: [`Mirror::snapshot`](crate::durable::Mirror::snapshot). It shares the
/// values with the mirror.
///
/// ```no_run
/// # fn example(mirror: &pgbell::durable::Mirror<String>) {
/// let snapshot = mirror.snapshot();
/// println!("{} rows in version {}", snapshot.len(), snapshot.version());
/// for (key, status) in snapshot.iter() {
///     println!("{key}: {status}");
/// }
/// # }
/// ```
pub struct MirrorSnapshot<V> {
    rows: Values<V>,
    version: u64,
}

impl<V> MirrorSnapshot<V> {
    pub(super) fn new((rows, version): (Values<V>, u64)) -> Self {
        Self { rows, version }
    }

    /// Returns the keys and the values.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Arc<V>)> {
        self.rows.iter().map(|(key, value)| (&**key, value))
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns true if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the version of the mirror at that moment.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }
}

impl<V> Clone for MirrorSnapshot<V> {
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone(), version: self.version }
    }
}

/// Shows numbers, because rows are data of the application.
impl<V> fmt::Debug for MirrorSnapshot<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirrorSnapshot")
            .field("len", &self.len())
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
