//! From the first byte to the first ReadyForQuery.

use std::time::{Duration, Instant};

use super::violation::Violation;
use crate::auth::{AuthMethod, AuthPolicy, Authenticator, Credentials, ScramNonce, Step};
use crate::wire::{BackendMessage, ProtocolVersion};
use crate::{Error, ErrorKind};

/// Most messages before the first ReadyForQuery. A real server sends about twenty.
pub const STARTUP_MESSAGES_MAX: u32 = 1_000;

/// Most bytes before the first ReadyForQuery: 1 MiB. A real server sends less than 1 KiB.
pub const STARTUP_BYTES_MAX: usize = 1024 * 1024;

/// What a session needs to know to log in. For one session: a nonce is never used twice.
#[derive(Debug)]
pub struct Login {
    /// Who, and with which password.
    pub credentials: Credentials,
    /// What the client insists on.
    pub policy: AuthPolicy,
    /// Random bytes for SCRAM.
    pub nonce: ScramNonce,
    /// Startup parameters besides `user`: `database`, `application_name`, `options` and the like.
    /// `client_encoding` is always sent, as `UTF8`.
    pub parameters: Vec<(String, String)>,
    /// The newest protocol version that is asked for.
    pub protocol: ProtocolVersion,
    /// When the session must be ready.
    pub deadline: Instant,
    /// How long LISTEN and UNLISTEN may take, from when they are the oldest command.
    pub command_timeout: Duration,
}

/// What the startup knows so far.
#[derive(Debug)]
pub(super) struct Startup {
    authenticator: Authenticator,
    pub(super) method: Option<AuthMethod>,
    pub(super) computing: bool,
    requested: ProtocolVersion,
    negotiated: bool,
    messages: u32,
    bytes: usize,
}

impl Startup {
    pub(super) fn new(login: Login) -> Self {
        Self {
            authenticator: Authenticator::new(login.credentials, login.policy, login.nonce),
            method: None,
            computing: false,
            requested: login.protocol,
            negotiated: false,
            messages: 0,
            bytes: 0,
        }
    }

    pub(super) fn is_authenticated(&self) -> bool {
        self.method.is_some()
    }

    /// Counts a message: a server that talks without end must not hold us for ever.
    pub(super) fn count(&mut self, bytes: usize) -> Result<(), Violation> {
        self.messages = self.messages.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.messages > STARTUP_MESSAGES_MAX || self.bytes > STARTUP_BYTES_MAX {
            return Err(Violation::EndlessStartup);
        }
        Ok(())
    }

    /// Takes in an Authentication message. Returns what to send, a whole `p` body.
    pub(super) fn authenticate(
        &mut self,
        message: &BackendMessage<'_>,
    ) -> Result<Option<crate::auth::Response>, Error> {
        let BackendMessage::Authentication(request) = message else { return Ok(None) };
        if self.is_authenticated() || self.computing {
            return Err(Violation::unexpected(message, "this moment of the startup").into());
        }
        let step = self.authenticator.handle(request)?;
        Ok(self.step(step))
    }

    /// Does at most 1,000 rounds of key derivation.
    pub(super) fn compute(&mut self) -> Result<Option<crate::auth::Response>, Error> {
        if !self.computing {
            return Ok(None);
        }
        self.computing = false;
        let step = self.authenticator.compute()?;
        Ok(self.step(step))
    }

    fn step(&mut self, step: Step) -> Option<crate::auth::Response> {
        match step {
            Step::Send(response) => return Some(response),
            Step::Compute => self.computing = true,
            Step::Wait => {}
            Step::Done(method) => self.method = Some(method),
        }
        None
    }

    /// Takes in NegotiateProtocolVersion: what the server speaks instead of what was asked.
    pub(super) fn negotiate(
        &mut self,
        offered: ProtocolVersion,
        options: &[&[u8]],
    ) -> Result<ProtocolVersion, Error> {
        // The rules of libpq's pqGetNegotiateProtocolVersion3. N32.
        let why = if self.negotiated {
            "came twice"
        } else if self.is_authenticated() {
            "came after authentication"
        } else if offered > self.requested {
            "offers a newer version than was asked for"
        } else if offered < ProtocolVersion::V3_0 {
            "offers a version below 3.0"
        } else if offered == ProtocolVersion::V3_1 {
            "offers version 3.1, which does not exist"
        } else if !options.is_empty() {
            "names an option that was not sent"
        } else if offered == self.requested {
            "changes nothing"
        } else {
            self.negotiated = true;
            return Ok(offered);
        };
        Err(Violation::Negotiation { why }.into())
    }
}

/// The key of BackendKeyData has four bytes before protocol 3.2 and 4 to 256 from there on. N6.
pub(super) fn check_key(version: ProtocolVersion, key: &[u8]) -> Result<(), Violation> {
    if version < ProtocolVersion::V3_2 && key.len() != 4 {
        return Err(Violation::KeyLength { found: key.len(), expected: "4 in protocol 3.0" });
    }
    Ok(())
}

/// The handshake deadline has passed.
#[cold]
pub(super) fn timed_out(authenticated: bool) -> Error {
    let message = if authenticated {
        "the server authenticated us and did not become ready in time"
    } else {
        "the server did not complete authentication in time"
    };
    Error::new(ErrorKind::Timeout, message)
}
