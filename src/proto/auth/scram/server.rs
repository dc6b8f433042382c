//! The server's side of the exchange, for scripted servers and for fuzzing. It imitates PostgreSQL only as far as a client
//! can see.

use std::fmt;
use std::mem;

use hmac::Mac;
use hmac::digest::CtOutput;
use sha2::{Digest, Sha256};

use super::error::{ScramError, ScramMessage};
use super::keys::{self, Key, Pbkdf2, ScramProgress};
use super::message::{self, Binding, ClientFinal, ClientFirst, ScramNonce};
use super::{SCRAM_ITERATIONS_MAX, SCRAM_ROUNDS_PER_STEP_MAX, SCRAM_SALT_BYTES_MAX, SCRAM_SHA_256};
use crate::proto::auth::saslprep::{self, NonAsciiPassword};
use crate::proto::auth::secret::Password;

/// The form in which a server stores a password: `rolpassword` in `pg_authid`.
#[derive(Clone)]
pub struct ScramVerifier {
    salt: Vec<u8>,
    iterations: u32,
    stored_key: Key,
    server_key: Key,
}

impl ScramVerifier {
    /// Computes the verifier like `CREATE ROLE … PASSWORD`, with all rounds in this call.
    ///
    /// Salt and count are limited to values that a client accepts: an empty salt becomes one zero byte,
    /// a salt longer than [`SCRAM_SALT_BYTES_MAX`] is truncated, and the count is at least 1 and at most
    /// [`SCRAM_ITERATIONS_MAX`].
    ///
    /// # Errors
    /// [`NonAsciiPassword`] in a build without the feature `saslprep`.
    pub fn from_password(
        password: &Password,
        salt: &[u8],
        iterations: u32,
    ) -> Result<Self, NonAsciiPassword> {
        let prepared = Password::new(saslprep::prepare(password.expose())?);
        let mut salt = salt.to_vec();
        salt.truncate(SCRAM_SALT_BYTES_MAX);
        if salt.is_empty() {
            salt.push(0);
        }
        let iterations = iterations.clamp(1, SCRAM_ITERATIONS_MAX);
        let mut hi = Pbkdf2::new(prepared.expose(), salt.clone(), iterations);
        while hi.advance(SCRAM_ROUNDS_PER_STEP_MAX) == ScramProgress::More {}
        let salted = hi.salted_password();
        Ok(Self {
            salt,
            iterations,
            stored_key: keys::stored_key(&salted.client_key()),
            server_key: salted.server_key(),
        })
    }

    /// Parses PostgreSQL's text format, `SCRAM-SHA-256$<count>:<salt>$<StoredKey>:<ServerKey>`.
    ///
    /// `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(SCRAM_SHA_256)?.strip_prefix('$')?;
        let (cost, keys) = rest.split_once('$')?;
        let (iterations, salt) = cost.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        // The name of the message is not used: the error is dropped.
        let iterations =
            message::parse_iterations(iterations.as_bytes(), ScramMessage::ServerFirst).ok()?;
        let salt = message::decode_base64(salt.as_bytes())?;
        if salt.is_empty() || salt.len() > SCRAM_SALT_BYTES_MAX {
            return None;
        }
        Some(Self {
            salt,
            iterations: u32::try_from(iterations).ok()?,
            stored_key: Key::new(message::decode_base64_32(stored_key.as_bytes())?),
            server_key: Key::new(message::decode_base64_32(server_key.as_bytes())?),
        })
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramVerifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

/// The result of an exchange, with the server-final-message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum ScramVerdict {
    /// The proof is right: `v=…`.
    Accepted(Vec<u8>),
    /// The proof is wrong: `e=invalid-proof`. PostgreSQL itself sends an ErrorResponse (28P01) instead.
    // N23.
    Refused(Vec<u8>),
}

/// The server's side of one exchange, without channel binding.
pub struct ScramServer {
    verifier: ScramVerifier,
    nonce: ScramNonce,
    state: ServerState,
}

enum ServerState {
    New,
    FirstSent {
        binding: Binding,
        /// Both nonces together.
        nonce: String,
        /// `client-first-message-bare,server-first-message,`
        auth_message: Vec<u8>,
    },
    Ended,
}

impl ScramServer {
    /// Creates an exchange with this nonce, which must be fresh.
    #[must_use]
    pub fn new(verifier: ScramVerifier, nonce: ScramNonce) -> Self {
        Self { verifier, nonce, state: ServerState::New }
    }

    /// Handles the client-first-message, and returns the server-first-message.
    ///
    /// # Errors
    /// If the message is invalid, or requests channel binding.
    pub fn handle_client_first(&mut self, text: &[u8]) -> Result<Vec<u8>, ScramError> {
        let ServerState::New = self.take_state() else {
            return Err(out_of_order("client-first-message"));
        };
        let first = ClientFirst::parse(text)?;
        let nonce = [first.nonce, self.nonce.as_str()].concat();
        let salt = message::encode_base64(&self.verifier.salt);
        let reply = format!("r={nonce},s={salt},i={}", self.verifier.iterations).into_bytes();
        let auth_message = [first.bare, &reply, b""].join(&b',');
        self.state = ServerState::FirstSent { binding: first.binding, nonce, auth_message };
        Ok(reply)
    }

    /// Handles the client-final-message, and verifies the proof in constant time.
    ///
    /// # Errors
    /// If the message is invalid. A wrong proof is not an error, but a verdict.
    pub fn handle_client_final(&mut self, text: &[u8]) -> Result<ScramVerdict, ScramError> {
        let ServerState::FirstSent { binding, nonce, mut auth_message } = self.take_state() else {
            return Err(out_of_order("client-final-message"));
        };
        let last = ClientFinal::parse(text)?;
        if last.binding != binding.encoded().as_bytes() {
            let problem = "final message does not repeat the header of the first";
            return Err(ScramError::ChannelBinding { problem });
        }
        if last.nonce != nonce {
            return Err(ScramError::NonceMismatch { message: ScramMessage::ClientFinal });
        }
        auth_message.extend_from_slice(last.without_proof);

        let mut client_key = Key::new(last.proof);
        let signature = keys::client_signature(&self.verifier.stored_key, &auth_message);
        keys::xor_into(&mut client_key, &signature);
        let found = CtOutput::<Sha256>::new(Sha256::digest(client_key.as_slice()));
        if found != CtOutput::new((*self.verifier.stored_key).into()) {
            return Ok(ScramVerdict::Refused(b"e=invalid-proof".to_vec()));
        }
        let signature = keys::server_signature(&self.verifier.server_key, &auth_message);
        let signature = message::encode_base64(&signature.finalize().into_bytes());
        Ok(ScramVerdict::Accepted(format!("v={signature}").into_bytes()))
    }

    /// Takes the state, and leaves [`ServerState::Ended`] in its place.
    fn take_state(&mut self) -> ServerState {
        mem::replace(&mut self.state, ServerState::Ended)
    }
}

#[cold]
fn out_of_order(call: &'static str) -> ScramError {
    ScramError::OutOfOrder { call, state: "another message is expected" }
}

impl fmt::Debug for ScramServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            ServerState::New => "new",
            ServerState::FirstSent { .. } => "first sent",
            ServerState::Ended => "ended",
        };
        f.debug_struct("ScramServer").field("state", &state).finish_non_exhaustive()
    }
}
