//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677) in PostgreSQL's variant.
//!
//! Client and server are state machines without I/O: the nonce is an argument, and the expensive key derivation
//! is done in steps, one per call. Some malformed server messages that libpq accepts (trailing attributes, a nonce
//! that the server did not extend) are refused.
// N23.

mod client;
mod error;
mod keys;
mod message;
mod server;

pub use client::ScramClient;
pub use error::{ScramError, ScramMessage};
pub use keys::ScramProgress;
pub use message::{Binding, ScramNonce};
pub use server::{ScramServer, ScramVerdict, ScramVerifier};

/// The name of the mechanism without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";

/// The name of the mechanism with channel binding.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The smallest number of PBKDF2 iterations that a server may request, unless the caller sets another one.
///
/// It is the minimum of RFC 7677, and the default of PostgreSQL's `scram_iterations` (16 and later). After a request for
/// one iteration, passwords could be tried 4,096 times faster against the client's proof.
// N22.
pub const SCRAM_ITERATIONS_MIN: u32 = 4_096;

/// The largest number of PBKDF2 iterations that a server may request, unless the caller sets another one.
///
/// Guides of 2026 recommend 600,000 to 1,000,000. They are computed in steps, between which a deadline can end the login:
/// CVE-2026-42198 and RUSTSEC-2026-0179 are about clients without such a limit.
// N22.
pub const SCRAM_ITERATIONS_MAX: u32 = 2_000_000;

/// The largest number of PBKDF2 rounds that one call computes: 0.16 ms with the SHA instructions of x86-64.
///
/// Between two calls an async runtime can run other tasks, and a deadline can end the login.
// N22.
pub const SCRAM_ROUNDS_PER_STEP_MAX: u32 = 1_000;

/// The longest SCRAM message that is accepted, in bytes.
///
/// It is libpq's limit for an authentication request. PostgreSQL's own messages have about 100 bytes, and
/// it accepts at most 1,024 (`PG_MAX_SASL_MESSAGE_LENGTH`).
// N23.
pub const SCRAM_MESSAGE_BYTES_MAX: usize = 2_000;

/// The longest salt that is accepted, in bytes. PostgreSQL's salts have 16.
pub const SCRAM_SALT_BYTES_MAX: usize = 1_024;

/// The number of random bytes of a nonce: the same as in PostgreSQL (`SCRAM_RAW_NONCE_LEN`).
pub const SCRAM_NONCE_BYTES: usize = 18;

#[cfg(test)]
mod tests;
