//! From the first byte to the first ReadyForQuery.

use std::time::{Duration, Instant};

use super::cancel::CancelKey;
use super::negotiate::Negotiation;
use super::violation::Violation;
use super::{Phase, Session, SessionEvent};
use crate::auth::{AuthMethod, AuthPolicy, Authenticator, Credentials, ScramNonce, Step};
use crate::wire::{self, BackendMessage, DbError, ProtocolVersion};
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
    /// The newest protocol version that is asked for: [`V3_0`](ProtocolVersion::V3_0), or
    /// [`V3_2`](ProtocolVersion::V3_2) for a longer cancel key. An older one may come of it.
    pub protocol: ProtocolVersion,
    /// The oldest protocol version to go on with.
    pub min_protocol: ProtocolVersion,
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
    pub(super) negotiation: Negotiation,
    has_password: bool,
    messages: u32,
    bytes: usize,
}

impl Session {
    pub(super) fn count_startup(&mut self, bytes: usize) -> Result<(), Violation> {
        match &mut self.phase {
            Phase::Startup { startup, .. } => startup.count(bytes),
            _ => Ok(()),
        }
    }

    pub(super) fn handle_startup(&mut self, message: &BackendMessage<'_>) -> Result<(), Error> {
        let Phase::Startup { startup, .. } = &mut self.phase else { return Ok(()) };
        match message {
            BackendMessage::Authentication(_) => {
                self.asked = true;
                let response = startup.authenticate(message)?;
                self.method = startup.method;
                self.respond(response)
            }
            BackendMessage::NegotiateProtocolVersion { version, options } => {
                let options: Vec<_> = options.iter().collect();
                self.version = startup.negotiation.answer(*version, &options)?;
                Ok(())
            }
            BackendMessage::BackendKeyData(key)
                if startup.is_authenticated() && self.process_id.is_none() =>
            {
                self.cancel_key = Some(CancelKey::new(self.version, key)?);
                self.process_id = Some(key.process_id);
                Ok(())
            }
            BackendMessage::ParameterStatus { name, value } if startup.is_authenticated() => {
                self.parameters.set(name, value);
                Ok(())
            }
            BackendMessage::ReadyForQuery { status } if startup.is_authenticated() => {
                self.parameters.check_encoding()?;
                self.status = *status;
                self.phase = Phase::Ready;
                self.events.push_back(SessionEvent::Ready);
                Ok(())
            }
            _ => Err(Violation::unexpected(message, "the startup").into()),
        }
    }
}

impl Startup {
    pub(super) fn new(login: Login) -> Result<Self, Error> {
        login.policy.check_channel()?;
        Ok(Self {
            negotiation: Negotiation::new(&login)?,
            has_password: login.credentials.has_password(),
            authenticator: Authenticator::new(login.credentials, login.policy, login.nonce),
            method: None,
            computing: false,
            messages: 0,
            bytes: 0,
        })
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

    /// Whether a message of so many bytes may come.
    pub(super) fn check_room(&self, bytes: usize) -> Result<(), Violation> {
        match self.bytes.saturating_add(bytes) <= STARTUP_BYTES_MAX {
            true => Ok(()),
            false => Err(Violation::EndlessStartup),
        }
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
        self.negotiation.settle()?;
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

    /// The server refused the login, or ended the session before it was ready.
    #[cold]
    pub(super) fn refused(&self, error: DbError) -> Error {
        let password = matches!(error.code(), "28P01" | "28000") && !self.has_password;
        let hint = match self.negotiation.hint(error.code()) {
            None if password => {
                Some("no password was given: set password, PGPASSWORD or a password file")
            }
            hint => hint,
        };
        let error = Error::server("the server refused the connection", error);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
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

/// The handshake deadline has passed while keys were derived.
#[cold]
pub(super) fn computed_too_long() -> Error {
    let message = "the server asks for more SCRAM iterations than there is time for";
    Error::new(ErrorKind::Timeout, message)
        .with_hint("raise connect_timeout, or refuse so many at once with scram_iterations_max")
}

/// An error in the form of protocol 2, which a server sends that cannot even fork. N3.
#[cold]
pub(super) fn legacy_error(text: &[u8]) -> Error {
    let text = String::from_utf8_lossy(text);
    Error::new(
        ErrorKind::Connect,
        format!("the server refused the connection: {}", wire::escape::Escaped(text.trim_end())),
    )
}
