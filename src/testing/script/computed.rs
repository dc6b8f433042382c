//! Bytes that depend on what the client has sent.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

type Answer = dyn Fn(&[Bytes]) -> Vec<u8> + Send + Sync;

/// A function that computes the next bytes from the bytes received so far.
#[derive(Clone)]
pub(super) struct Computed(Arc<Answer>);

impl Computed {
    pub(super) fn new(answer: impl Fn(&[Bytes]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self(Arc::new(answer))
    }

    pub(super) fn answer(&self, received: &[Bytes]) -> Bytes {
        (self.0)(received).into()
    }
}

impl fmt::Debug for Computed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Computed(..)")
    }
}

/// Equal means the same function object.
impl PartialEq for Computed {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Computed {}
