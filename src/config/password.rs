//! The password inside a [`Config`](super::Config).

use std::fmt;

use zeroize::Zeroizing;

/// The bytes of a password: overwritten when dropped, never shown.
#[derive(Clone)]
pub(super) struct Password(Zeroizing<Vec<u8>>);

impl Password {
    pub(super) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}
