//! The client's side of authentication: from the server's requests to the responses, without a
//! socket, a clock or a random source. For tests there are the server's sides of MD5 and SCRAM too.
//!
//! ```text
//! start ─Ok──────────────────────────────────────────────────────► done (trust)
//!   ├─CleartextPassword─► Send ─┐
//!   ├─Md5Password───────► Send ─┴─Ok─────────────────────────────► done
//!   └─Sasl─► Send ─SaslContinue─► Compute… ─► Send ─SaslFinal─► Wait ─Ok─► done
//! ```
//! Everything else is an error, and an error is final. Examples are an AuthenticationOk during SCRAM
//! before the server's signature was verified, a second request after the first, and a method that
//! the [policy](AuthPolicy) does not permit. A refused request is not answered.

mod credentials;
#[cfg(feature = "tls")]
#[cfg_attr(
    not(feature = "tokio"),
    allow(dead_code, reason = "other modules read more of a certificate")
)]
pub(crate) mod der;
#[cfg(feature = "tls")]
mod end_point;
mod error;
pub mod md5;
mod offer;
mod policy;
mod require;
pub mod saslprep;
pub mod scram;
mod secret;

use std::fmt;
use std::mem;

pub use credentials::Credentials;
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use end_point::tls_server_end_point;
pub use error::{AuthError, AuthRefusal, Obstacle};
pub use offer::SASL_MECHANISMS_MAX;
pub use policy::{AuthMethod, AuthPolicy, Channel, ChannelBinding, ChannelBindingError};
pub use require::{RequireAuth, RequireAuthError};
pub use saslprep::NonAsciiPassword;
pub use scram::{
    SCRAM_ITERATIONS_MAX, SCRAM_ITERATIONS_MIN, ScramClient, ScramError, ScramNonce, ScramServer,
    ScramVerdict, ScramVerifier,
};
pub use secret::{Password, Response};

use self::offer::Offer;
use crate::proto::wire::Authentication;
use scram::{SCRAM_ROUNDS_PER_STEP_MAX, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramProgress};

/// The next action of the caller.
#[derive(Debug)]
#[must_use]
pub enum AuthStep {
    /// Send a `p` message with this body.
    Send(Response),
    /// Call [`Authenticator::compute`]. Between two calls the caller can do other work and check its deadline.
    Compute,
    /// Wait for the server's next message.
    Wait,
    /// The server accepted the login, by this method.
    Done(AuthMethod),
}

/// One login, from the first AuthenticationRequest to AuthenticationOk.
pub struct Authenticator {
    credentials: Credentials,
    policy: AuthPolicy,
    state: AuthState,
}

enum AuthState {
    /// Nothing was received yet.
    Start(ScramNonce),
    /// The password or its MD5 response was sent.
    Answered(AuthMethod),
    /// The SCRAM exchange runs. Its progress is in `client`.
    Scram { client: Box<ScramClient>, method: AuthMethod },
    /// The server accepted the login.
    Done,
    /// The login failed. Every transition goes through this state, so that an error leaves it here.
    Failed,
}

impl AuthState {
    /// Returns the description of the expected request, for an error about another one.
    fn expected(&self) -> &'static str {
        match self {
            Self::Start(_) => "a first authentication request",
            Self::Answered(_) => "AuthenticationOk after the password",
            Self::Scram { client, .. } if client.is_verified() => {
                "AuthenticationOk after the SCRAM exchange"
            }
            Self::Scram { .. } => "the next message of the SCRAM exchange",
            Self::Done => "no authentication request after AuthenticationOk",
            Self::Failed => "nothing after a failed authentication",
        }
    }
}

impl Authenticator {
    /// Creates a login. The nonce must be fresh and random; it is used if SCRAM is chosen.
    #[must_use]
    pub fn new(credentials: Credentials, policy: AuthPolicy, nonce: ScramNonce) -> Self {
        Self { credentials, policy, state: AuthState::Start(nonce) }
    }

    /// Handles a request of the server, and returns the next action.
    ///
    /// # Errors
    /// Any [`AuthError`]. Nothing may be sent after it, and every later call fails too.
    pub fn handle(&mut self, request: &Authentication<'_>) -> Result<AuthStep, AuthError> {
        match (mem::replace(&mut self.state, AuthState::Failed), request) {
            (AuthState::Start(_), Authentication::Ok) => {
                self.policy.permit(AuthMethod::Trust)?;
                self.done(AuthMethod::Trust)
            }
            (AuthState::Start(_), Authentication::CleartextPassword) => self.send_password(),
            (AuthState::Start(_), Authentication::Md5Password { salt }) => self.send_md5(*salt),
            (AuthState::Start(nonce), Authentication::Sasl { mechanisms }) => {
                self.start_scram(nonce, mechanisms)
            }
            (AuthState::Start(_), Authentication::Unsupported { code, .. }) => {
                Err(AuthError::Unsupported { code: *code })
            }
            (AuthState::Answered(method), Authentication::Ok) => self.done(method),
            (AuthState::Scram { mut client, method }, Authentication::SaslContinue(text)) => {
                client.handle_server_first(text)?;
                self.state = AuthState::Scram { client, method };
                Ok(AuthStep::Compute)
            }
            (AuthState::Scram { mut client, method }, Authentication::SaslFinal(text)) => {
                client.handle_server_final(text)?;
                self.state = AuthState::Scram { client, method };
                Ok(AuthStep::Wait)
            }
            // Only after the server's signature was verified. libpq accepts it at any moment of
            // the exchange unless `require_auth` is set. N27.
            (AuthState::Scram { client, method }, Authentication::Ok) if client.is_verified() => {
                self.done(method)
            }
            (state, request) => {
                Err(AuthError::Violation { expected: state.expected(), found: name(request) })
            }
        }
    }

    /// Computes one step of the SCRAM keys, at most [`SCRAM_ROUNDS_PER_STEP_MAX`] rounds.
    ///
    /// # Errors
    /// [`AuthError::Misuse`] when the last step was not [`AuthStep::Compute`].
    pub fn compute(&mut self) -> Result<AuthStep, AuthError> {
        let AuthState::Scram { client, .. } = &mut self.state else {
            self.state = AuthState::Failed;
            let problem = "compute was called outside of a SCRAM exchange";
            return Err(AuthError::Misuse { problem });
        };
        let outcome = match client.compute(SCRAM_ROUNDS_PER_STEP_MAX) {
            Ok(ScramProgress::More) => Ok(AuthStep::Compute),
            Ok(ScramProgress::Done) => client.client_final().map(AuthStep::Send),
            Err(error) => Err(error),
        };
        outcome.map_err(|_| {
            self.state = AuthState::Failed;
            AuthError::Misuse { problem: "compute was called when there is nothing to compute" }
        })
    }

    fn done(&mut self, method: AuthMethod) -> Result<AuthStep, AuthError> {
        self.state = AuthState::Done;
        Ok(AuthStep::Done(method))
    }

    fn send_password(&mut self) -> Result<AuthStep, AuthError> {
        let method = AuthMethod::Password;
        self.policy.permit(method)?;
        let response = Response::password(self.credentials.password_for(method)?.expose());
        self.state = AuthState::Answered(method);
        Ok(AuthStep::Send(response))
    }

    fn send_md5(&mut self, salt: [u8; 4]) -> Result<AuthStep, AuthError> {
        let method = AuthMethod::Md5;
        self.policy.permit(method)?;
        let password = self.credentials.password_for(method)?;
        let response = md5::response(self.credentials.user(), password, salt);
        self.state = AuthState::Answered(method);
        Ok(AuthStep::Send(Response::password(&response)))
    }

    fn start_scram(&mut self, nonce: ScramNonce, mechanisms: &[u8]) -> Result<AuthStep, AuthError> {
        self.policy.check_channel()?;
        let (method, binding) = Offer::parse(mechanisms)?.choose(&self.policy)?;
        self.policy.permit(method)?;
        let password = self.credentials.password_for(method)?;
        let mut client = ScramClient::new(nonce, password, binding)?
            .iterations_min(self.policy.scram_iterations_min)
            .iterations_max(self.policy.scram_iterations_max);
        let mechanism = match method {
            AuthMethod::ScramSha256Plus => SCRAM_SHA_256_PLUS,
            _ => SCRAM_SHA_256,
        };
        let problem = "the client-first-message is too long for a message";
        let response = Response::sasl_initial(mechanism, &client.client_first()?)
            .ok_or(AuthError::Misuse { problem })?;
        self.state = AuthState::Scram { client: Box::new(client), method };
        Ok(AuthStep::Send(response))
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("user", &self.credentials.user())
            .field("expected", &self.state.expected())
            .finish_non_exhaustive()
    }
}

fn name(request: &Authentication<'_>) -> &'static str {
    match request {
        Authentication::Ok => "AuthenticationOk",
        Authentication::CleartextPassword => "AuthenticationCleartextPassword",
        Authentication::Md5Password { .. } => "AuthenticationMD5Password",
        Authentication::Sasl { .. } => "AuthenticationSASL",
        Authentication::SaslContinue(_) => "AuthenticationSASLContinue",
        Authentication::SaslFinal(_) => "AuthenticationSASLFinal",
        Authentication::Unsupported { .. } => "a request of an unknown method",
    }
}

#[cfg(test)]
mod tests;
