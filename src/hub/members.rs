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
    Many {
        list: Vec<Arc<Mailbox>>,
        /// The place of each member in the list, by its address. Empty if there are few.
        index: HashMap<usize, usize>,
    },
}

impl Members {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn as_slice(&self) -> &[Arc<Mailbox>] {
        match self {
            Self::None => &[],
            Self::One(one) => slice::from_ref(one),
            Self::Many { list, .. } => list,
        }
    }

    /// Adds a mailbox that is not a member.
    pub(super) fn add(&mut self, member: Arc<Mailbox>) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(member),
            Self::One(one) => Self::Many { list: vec![one, member], index: HashMap::new() },
            Self::Many { mut list, mut index } => {
                list.push(member);
                if list.len() == INDEXED {
                    index = list.iter().enumerate().map(|(at, one)| (address(one), at)).collect();
                } else if let (false, Some(last)) = (index.is_empty(), list.last()) {
                    // There may be fewer than that again.
                    index.insert(address(last), list.len() - 1);
                }
                Self::Many { list, index }
            }
        };
    }

    /// Removes a mailbox. Returns whether it was a member.
    pub(super) fn remove(&mut self, member: &Arc<Mailbox>) -> bool {
        match self {
            Self::One(one) if Arc::ptr_eq(one, member) => *self = Self::None,
            Self::None | Self::One(_) => return false,
            Self::Many { list, index } => {
                let found = match index.is_empty() {
                    true => list.iter().position(|one| Arc::ptr_eq(one, member)),
                    false => index.remove(&address(member)),
                };
                let Some(at) = found.filter(|at| *at < list.len()) else { return false };
                list.swap_remove(at);
                if let Some(moved) = list.get(at).filter(|_| !index.is_empty()) {
                    index.insert(address(moved), at);
                }
                if list.len() < INDEXED / 2 {
                    *index = HashMap::new();
                    list.shrink_to(INDEXED);
                }
                if let [last] = list.as_slice() {
                    *self = Self::One(last.clone());
                }
            }
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
