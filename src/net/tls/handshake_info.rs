//! Facts about the handshake of one connection, for its checks and errors.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::Error;

/// The facts about the handshake of one connection that rustls does not return.
#[derive(Debug, Default)]
pub(super) struct HandshakeInfo {
    /// The file in which a client certificate was searched.
    certificate_file: Option<PathBuf>,
    certificate_requested: AtomicBool,
    certificate_sent: AtomicBool,
    /// The error for a refused server certificate.
    refusal: Mutex<Option<Error>>,
}

impl HandshakeInfo {
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

    /// Returns whether the server requested a client certificate.
    pub(super) fn certificate_requested(&self) -> bool {
        self.certificate_requested.load(Ordering::Relaxed)
    }

    /// Returns whether one was sent.
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
