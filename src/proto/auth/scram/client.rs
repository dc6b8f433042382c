//! The client's side of the exchange.

use std::fmt;
use std::mem;
use std::ops::RangeInclusive;

use hmac::Mac;
use zeroize::Zeroizing;

use super::error::ScramError;
use super::keys::{self, HmacSha256, Pbkdf2, SaltedPassword, ScramProgress};
use super::message::{self, Binding, ScramNonce, ServerFirst};
use super::{SCRAM_ITERATIONS_MAX, SCRAM_ITERATIONS_MIN};
use crate::proto::auth::saslprep::{self, NonAsciiPassword};
use crate::proto::auth::secret::{Password, Response};

/// The client's side of one exchange.
///
/// ```text
/// new ─client_first─► first sent ─handle_server_first─► computing ─compute…─► computed
///                               ─client_final─► final sent ─handle_server_final─► verified
/// ```
/// Any error, and any call out of this order, leaves it failed.
pub struct ScramClient {
    nonce: ScramNonce,
    /// `n=,r=<nonce>`: a part of AuthMessage. The name of the user is in the startup message.
    first_bare: String,
    binding: Binding,
    iterations: RangeInclusive<u32>,
    state: ClientState,
}

enum ClientState {
    New {
        prepared: Zeroizing<Vec<u8>>,
    },
    FirstSent {
        prepared: Zeroizing<Vec<u8>>,
    },
    Computing {
        hi: Box<Pbkdf2>,
        agreed: Agreed,
    },
    Computed {
        salted: SaltedPassword,
        agreed: Agreed,
    },
    FinalSent {
        /// The MAC of AuthMessage under ServerKey. Its output is the only signature to accept.
        signature: HmacSha256,
    },
    Verified,
    Failed,
}

/// The values that the two first messages exchanged.
struct Agreed {
    /// Both nonces together.
    nonce: String,
    server_first: Vec<u8>,
}

impl ClientState {
    fn name(&self) -> &'static str {
        match self {
            Self::New { .. } => "the first message is not sent yet",
            Self::FirstSent { .. } => "waiting for the server-first-message",
            Self::Computing { .. } => "computing the keys",
            Self::Computed { .. } => "the final message is not sent yet",
            Self::FinalSent { .. } => "waiting for the server-final-message",
            Self::Verified => "the server is verified",
            Self::Failed => "the exchange has failed",
        }
    }
}

impl ScramClient {
    /// Creates an exchange with this nonce, which must be fresh, and this password, as the user entered it.
    ///
    /// # Errors
    /// [`NonAsciiPassword`] in a build without the feature `saslprep`.
    pub fn new(
        nonce: ScramNonce,
        password: &Password,
        binding: Binding,
    ) -> Result<Self, NonAsciiPassword> {
        let prepared = Zeroizing::new(saslprep::prepare(password.expose())?.into_owned());
        Ok(Self {
            first_bare: format!("n=,r={}", nonce.as_str()),
            nonce,
            binding,
            iterations: SCRAM_ITERATIONS_MIN..=SCRAM_ITERATIONS_MAX,
            state: ClientState::New { prepared },
        })
    }

    /// Sets the largest number of iterations that the server may request, instead of [`SCRAM_ITERATIONS_MAX`].
    #[must_use]
    pub fn iterations_max(mut self, iterations: u32) -> Self {
        self.iterations = *self.iterations.start()..=iterations;
        self
    }

    /// Sets the smallest number of iterations that the server may request, instead of [`SCRAM_ITERATIONS_MIN`].
    #[must_use]
    pub fn iterations_min(mut self, iterations: u32) -> Self {
        self.iterations = iterations..=*self.iterations.end();
        self
    }

    /// Sets the user name in the first message, for published exchanges.
    #[cfg(test)]
    pub(crate) fn username(mut self, name: &str) -> Self {
        self.first_bare = format!("n={name},r={}", self.nonce.as_str());
        self
    }

    /// Returns the client-first-message: the data of SASLInitialResponse.
    ///
    /// # Errors
    /// [`ScramError::OutOfOrder`] on a second call.
    pub fn client_first(&mut self) -> Result<Vec<u8>, ScramError> {
        match self.take_state() {
            ClientState::New { prepared } => {
                self.state = ClientState::FirstSent { prepared };
                Ok([self.binding.gs2_header(), &self.first_bare].concat().into_bytes())
            }
            state => Err(out_of_order("client-first-message requested", &state)),
        }
    }

    /// Handles the server-first-message. The keys are not computed yet.
    ///
    /// # Errors
    /// If the message is invalid, or the iteration count is not allowed.
    pub fn handle_server_first(&mut self, text: &[u8]) -> Result<(), ScramError> {
        match self.take_state() {
            ClientState::FirstSent { prepared } => {
                let first = ServerFirst::parse(text, self.nonce.as_str(), &self.iterations)?;
                let agreed = Agreed { nonce: first.nonce.to_owned(), server_first: text.to_vec() };
                let hi = Box::new(Pbkdf2::new(&prepared, first.salt, first.iterations));
                self.state = ClientState::Computing { hi, agreed };
                Ok(())
            }
            state => Err(out_of_order("server-first-message", &state)),
        }
    }

    /// Computes at most `rounds` PBKDF2 rounds, and never more than
    /// [`SCRAM_ROUNDS_PER_STEP_MAX`](super::SCRAM_ROUNDS_PER_STEP_MAX).
    ///
    /// # Errors
    /// [`ScramError::OutOfOrder`] before the server-first-message and after the final message.
    pub fn compute(&mut self, rounds: u32) -> Result<ScramProgress, ScramError> {
        // In place: moving the state would leave bytes of the key in memory.
        let progress = match &mut self.state {
            ClientState::Computing { hi, .. } => hi.advance(rounds),
            ClientState::Computed { .. } => return Ok(ScramProgress::Done),
            state => {
                let error = out_of_order("computation requested", state);
                self.state = ClientState::Failed;
                return Err(error);
            }
        };
        if progress == ScramProgress::Done
            && let ClientState::Computing { hi, agreed } = self.take_state()
        {
            self.state = ClientState::Computed { salted: hi.salted_password(), agreed };
        }
        Ok(progress)
    }

    /// Returns the client-final-message, as the body of SASLResponse.
    ///
    /// # Errors
    /// [`ScramError::OutOfOrder`] before the computation is done, and on a second call.
    pub fn client_final(&mut self) -> Result<Response, ScramError> {
        match self.take_state() {
            ClientState::Computed { salted, agreed } => {
                let without_proof = format!("c={},r={}", self.binding.encoded(), agreed.nonce);
                let auth_message =
                    [self.first_bare.as_bytes(), &agreed.server_first, without_proof.as_bytes()]
                        .join(&b',');
                let mut proof = salted.client_key();
                let stored_key = keys::stored_key(&proof);
                keys::xor_into(&mut proof, &keys::client_signature(&stored_key, &auth_message));
                let signature = keys::server_signature(&salted.server_key(), &auth_message);
                self.state = ClientState::FinalSent { signature };

                let proof = Zeroizing::new(message::encode_base64(&*proof));
                let text = [without_proof.as_str(), ",p=", proof.as_str()].concat();
                Ok(Response::sasl(Zeroizing::new(text.into_bytes())))
            }
            state => Err(out_of_order("client-final-message requested", &state)),
        }
    }

    /// Handles the server-final-message. Verifies, in constant time, that the server has the verifier of the
    /// password. AuthenticationOk must not be accepted before this.
    ///
    /// # Errors
    /// [`ScramError::Refused`], [`ScramError::WrongServerSignature`], or an error about an invalid message.
    pub fn handle_server_final(&mut self, text: &[u8]) -> Result<(), ScramError> {
        match self.take_state() {
            ClientState::FinalSent { signature } => {
                let found = message::parse_server_final(text)?;
                // libpq compares with memcmp. N23.
                signature.verify_slice(&found).map_err(|_| ScramError::WrongServerSignature)?;
                self.state = ClientState::Verified;
                Ok(())
            }
            state => Err(out_of_order("server-final-message", &state)),
        }
    }

    /// Returns whether the server's signature was verified.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        matches!(self.state, ClientState::Verified)
    }

    /// Takes the state, and leaves [`ClientState::Failed`] in its place.
    fn take_state(&mut self) -> ClientState {
        mem::replace(&mut self.state, ClientState::Failed)
    }
}

#[cold]
fn out_of_order(call: &'static str, state: &ClientState) -> ScramError {
    ScramError::OutOfOrder { call, state: state.name() }
}

impl fmt::Debug for ScramClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramClient").field("state", &self.state.name()).finish_non_exhaustive()
    }
}
