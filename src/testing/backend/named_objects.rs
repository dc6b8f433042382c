//! The named objects of a session, with a limit.

use std::collections::BTreeMap;

use super::refusal::Refusal;

/// The highest number of objects of one kind. A limit of this backend.
const COUNT_MAX: usize = 10_000;

/// The prepared statements or portals of a session, by name, within limits.
#[derive(Debug)]
pub(super) struct NamedObjects<T> {
    map: BTreeMap<String, (T, usize)>,
    bytes: usize,
}

impl<T> Default for NamedObjects<T> {
    fn default() -> Self {
        Self { map: BTreeMap::new(), bytes: 0 }
    }
}

impl<T> NamedObjects<T> {
    pub(super) fn get(&self, name: &str) -> Option<&T> {
        self.map.get(name).map(|(value, _)| value)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        self.map.get_mut(name).map(|(value, _)| value)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// Adds an object with its size in bytes. Replaces the object with the same name.
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
            return Err(Refusal::limit_exceeded(
                "the prepared statements or portals of this session",
            ));
        }
        self.bytes = sum;
        self.map.insert(name.to_owned(), (value, bytes));
        Ok(())
    }

    /// Removes an object. Returns whether there was one.
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
    fn objects_beyond_the_limits_are_refused() {
        let mut objects = NamedObjects::default();
        assert!(objects.insert("a", 1, 9, 20).is_ok());
        assert!(objects.insert("b", 2, 9, 20).is_ok());
        assert!(objects.insert("c", 3, 0, 20).is_err());
        assert!(objects.insert("a", 4, 0, 20).is_ok());
        assert!(objects.insert("c", 5, 8, 20).is_ok());
        assert!(objects.remove("b") && !objects.remove("b"));
        assert_eq!(
            [objects.get("a"), objects.get("b"), objects.get("c")],
            [Some(&4), None, Some(&5)]
        );
        objects.clear();
        for number in 0..COUNT_MAX {
            objects.insert(&number.to_string(), 0, 0, usize::MAX).unwrap();
        }
        assert!(objects.insert("a", 0, 0, usize::MAX).is_err());
    }
}
