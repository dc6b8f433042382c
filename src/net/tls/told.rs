//! What is seen of a server while hands are shaken with it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::Error;

/// What the handshake of one connection showed, beside what rustls tells of it.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The file in which a certificate of ours was looked for.
    certificate_file: Option<PathBuf>,
    certificate_requested: AtomicBool,
    certificate_sent: AtomicBool,
    /// Why its certificate was refused, in our own words.
    refusal: Mutex<Option<Error>>,
}

impl Told {
    pub(super) fn new(certificate_file: Option<PathBuf>) -> Self {
        Self { certificate_file, ..Self::default() }
    }

    pub(super) fn certificate_file(&self) -> Option<&PathBuf> {
        self.certificate_file.as_ref()
    }

    pub(super) fn set_certificate_requested(&self) {
        self.certificate_requested.store(true, Ordering::Relaxed);
    }

    pub(super) fn set_certificate_sent(&self) {
        self.certificate_sent.store(true, Ordering::Relaxed);
    }

    /// Whether the server asked for a certificate of ours.
    pub(super) fn certificate_requested(&self) -> bool {
        self.certificate_requested.load(Ordering::Relaxed)
    }

    /// Whether it was shown one.
    pub(super) fn certificate_sent(&self) -> bool {
        self.certificate_sent.load(Ordering::Relaxed)
    }

    pub(super) fn set_refusal(&self, error: Error) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub(super) fn refusal(&self) -> Option<Error> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
