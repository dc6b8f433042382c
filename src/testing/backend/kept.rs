//! What a session keeps under names, up to a limit.

use std::collections::BTreeMap;

use super::refusal::Refusal;

/// How many there may be. Ours.
const COUNT_MAX: usize = 10_000;

/// What a session keeps under names: statements or portals. Nothing is kept beyond the limits.
#[derive(Debug)]
pub(super) struct Kept<T> {
    map: BTreeMap<String, (T, usize)>,
    bytes: usize,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { map: BTreeMap::new(), bytes: 0 }
    }
}

impl<T> Kept<T> {
    pub(super) fn get(&self, name: &str) -> Option<&T> {
        self.map.get(name).map(|(value, _)| value)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        self.map.get_mut(name).map(|(value, _)| value)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// Keeps something that takes so many bytes, in the place of what had the name.
    pub(super) fn insert(
        &mut self,
        name: &str,
        value: T,
        bytes: usize,
        bytes_max: usize,
    ) -> Result<(), Refusal> {
        self.remove(name);
        let bytes = bytes.saturating_add(name.len());
        let sum = self.bytes.saturating_add(bytes);
        if sum > bytes_max || self.map.len() >= COUNT_MAX {
            return Err(Refusal::too_much("what this session has prepared"));
        }
        self.bytes = sum;
        self.map.insert(name.to_owned(), (value, bytes));
        Ok(())
    }

    /// Says whether there was anything of this name.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let removed = self.map.remove(name);
        if let Some((_, bytes)) = &removed {
            self.bytes = self.bytes.saturating_sub(*bytes);
        }
        removed.is_some()
    }

    pub(super) fn clear(&mut self) {
        self.map.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_beyond_the_limits() {
        let mut kept = Kept::default();
        assert!(kept.insert("a", 1, 9, 20).is_ok());
        assert!(kept.insert("b", 2, 9, 20).is_ok());
        assert!(kept.insert("c", 3, 0, 20).is_err());
        assert!(kept.insert("a", 4, 0, 20).is_ok());
        assert!(kept.insert("c", 5, 8, 20).is_ok());
        assert!(kept.remove("b") && !kept.remove("b"));
        assert_eq!([kept.get("a"), kept.get("b"), kept.get("c")], [Some(&4), None, Some(&5)]);
        kept.clear();
        for number in 0..COUNT_MAX {
            kept.insert(&number.to_string(), 0, 0, usize::MAX).unwrap();
        }
        assert!(kept.insert("a", 0, 0, usize::MAX).is_err());
    }
}
