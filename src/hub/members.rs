//! [`Members`]: the mailboxes of a channel or a topic.

use std::collections::HashMap;
use std::slice;
use std::sync::Arc;

use super::mailbox::Mailbox;

/// From this number on, a member is found by an index.
const INDEXED: usize = 32;

/// A set of mailboxes. Nearly every topic has one. A channel may have very many, each of which can leave at any time.
#[derive(Debug, Default)]
pub(super) enum Members {
    #[default]
    None,
    One(Arc<Mailbox>),
    // Boxed: there may be very many sets of one.
    Many(Box<Indexed>),
}

/// Several mailboxes.
#[derive(Debug, Default)]
pub(super) struct Indexed {
    list: Vec<Arc<Mailbox>>,
    /// The place of each member in the list, by its address. Empty if there are few.
    index: HashMap<usize, usize>,
}

impl Members {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn as_slice(&self) -> &[Arc<Mailbox>] {
        match self {
            Self::None => &[],
            Self::One(one) => slice::from_ref(one),
            Self::Many(many) => &many.list,
        }
    }

    /// Adds a mailbox that is not a member.
    pub(super) fn add(&mut self, member: Arc<Mailbox>) {
        match self {
            Self::None => *self = Self::One(member),
            Self::One(one) => {
                let list = vec![one.clone(), member];
                *self = Self::Many(Box::new(Indexed { list, index: HashMap::new() }));
            }
            Self::Many(many) => many.add(member),
        }
    }

    /// Removes a mailbox. Returns whether it was a member.
    pub(super) fn remove(&mut self, member: &Arc<Mailbox>) -> bool {
        match self {
            Self::One(one) if Arc::ptr_eq(one, member) => *self = Self::None,
            Self::None | Self::One(_) => return false,
            Self::Many(many) => {
                if !many.remove(member) {
                    return false;
                }
                if let [last] = many.list.as_slice() {
                    *self = Self::One(last.clone());
                }
            }
        }
        true
    }
}

impl Indexed {
    fn add(&mut self, member: Arc<Mailbox>) {
        let at = self.list.len();
        if !self.index.is_empty() {
            self.index.insert(address(&member), at);
        }
        self.list.push(member);
        if self.index.is_empty() && at + 1 >= INDEXED {
            let places = self.list.iter().enumerate().map(|(at, one)| (address(one), at));
            self.index = places.collect();
        }
    }

    /// Removes a mailbox. Returns whether it was a member.
    fn remove(&mut self, member: &Arc<Mailbox>) -> bool {
        let found = match self.index.is_empty() {
            true => self.list.iter().position(|one| Arc::ptr_eq(one, member)),
            false => self.index.remove(&address(member)),
        };
        let Some(at) = found.filter(|at| *at < self.list.len()) else { return false };
        self.list.swap_remove(at);
        if let Some(moved) = self.list.get(at).filter(|_| !self.index.is_empty()) {
            self.index.insert(address(moved), at);
        }
        if self.list.len() < INDEXED / 2 {
            self.index = HashMap::new();
            self.list.shrink_to(INDEXED);
        }
        true
    }
}

fn address(mailbox: &Arc<Mailbox>) -> usize {
    Arc::as_ptr(mailbox).addr()
}

#[cfg(test)]
mod tests {
    use super::super::mailbox::Limits;
    use super::*;

    #[test]
    fn every_member_is_found_whatever_the_order_in_which_they_leave() {
        let mut members = Members::default();
        let mut expected: Vec<Arc<Mailbox>> = Vec::new();
        let mut random = 1_u32;
        for step in 0..20_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Phases in which there are more and more, and fewer and fewer.
            let is_join = (random >> 8) % 10 < if step / 1_000 % 2 == 0 { 7 } else { 3 };
            if is_join || expected.is_empty() {
                let mailbox = Arc::new(Mailbox::new(Limits::default(), None, false));
                members.add(mailbox.clone());
                expected.push(mailbox);
            } else {
                let leaves = expected.swap_remove((random >> 16) as usize % expected.len());
                assert!(members.remove(&leaves));
                assert!(!members.remove(&leaves));
            }
            assert_eq!(members.is_empty(), expected.is_empty());
            let mut found: Vec<usize> = members.as_slice().iter().map(address).collect();
            let mut wanted: Vec<usize> = expected.iter().map(address).collect();
            found.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(found, wanted);
        }
    }
}
