//! Bytes that depend on what the other side has sent.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

type Answer = dyn Fn(&[Bytes]) -> Vec<u8> + Send + Sync;

/// A function from what was heard to what is said.
#[derive(Clone)]
pub(super) struct Computed(Arc<Answer>);

impl Computed {
    pub(super) fn new(answer: impl Fn(&[Bytes]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self(Arc::new(answer))
    }

    pub(super) fn answer(&self, heard: &[Bytes]) -> Bytes {
        (self.0)(heard).into()
    }
}

impl fmt::Debug for Computed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Computed(..)")
    }
}

/// The same function, not an equal one.
impl PartialEq for Computed {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Computed {}
