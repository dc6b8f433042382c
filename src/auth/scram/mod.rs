//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677) as PostgreSQL speaks them.
//!
//! Both halves are pure state machines: the nonce is an argument, and the expensive key derivation
//! is done in steps that the caller asks for. Where libpq shrugs at a malformed server message
//! (trailing attributes, a nonce that the server did not extend) this one refuses. N23.

mod client;
mod error;
mod keys;
mod message;
mod server;

pub use client::ScramClient;
pub use error::{ScramError, ScramMessage};
pub use keys::Progress;
pub use message::{Binding, ScramNonce};
pub use server::{ScramServer, ScramVerdict, ScramVerifier};

/// Name of the mechanism without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";

/// Name of the mechanism with channel binding.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Fewest PBKDF2 iterations a server may ask for, unless the caller says otherwise.
///
/// What RFC 7677 asks for, and what PostgreSQL uses unless `scram_iterations` (16 and later) is changed. A server that
/// asks for one iteration gets a proof from which a password is guessed 4,096 times faster. Note N22.
pub const SCRAM_ITERATIONS_MIN: u32 = 4_096;

/// Most PBKDF2 iterations a server may ask for, unless the caller says otherwise.
///
/// Guides of 2026 recommend 600,000 to 1,000,000. They are computed in steps between which a deadline can end the login:
/// CVE-2026-42198 and RUSTSEC-2026-0179 are about clients that compute as long as the server likes. Note N22.
pub const SCRAM_ITERATIONS_MAX: u32 = 2_000_000;

/// Most PBKDF2 rounds that one call computes: 0.16 ms with the SHA instructions of x86-64.
///
/// Between two calls a runtime breathes and a deadline can cancel. Note N22.
pub const SCRAM_ROUNDS_PER_STEP_MAX: u32 = 1_000;

/// Longest SCRAM message that is read, in bytes.
///
/// libpq's limit for an authentication request. PostgreSQL's own messages are near 100 bytes, and
/// what it reads it caps at 1,024 (`PG_MAX_SASL_MESSAGE_LENGTH`). Note N23.
pub const SCRAM_MESSAGE_BYTES_MAX: usize = 2_000;

/// Longest salt that is accepted, in bytes. PostgreSQL's salts have 16.
pub const SCRAM_SALT_BYTES_MAX: usize = 1_024;

/// Random bytes that make a nonce: as many as PostgreSQL uses (`SCRAM_RAW_NONCE_LEN`).
pub const SCRAM_NONCE_BYTES: usize = 18;

#[cfg(test)]
mod tests;
