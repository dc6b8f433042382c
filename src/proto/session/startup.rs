//! The startup of a session, up to the first ReadyForQuery.

use std::time::{Duration, Instant};

use super::cancel::CancelKey;
use super::negotiate::Negotiation;
use super::violation::Violation;
use super::{Session, SessionEvent, SessionPhase};
use crate::error::{Error, ErrorKind};
use crate::proto::auth::{
    AuthMethod, AuthPolicy, AuthStep, Authenticator, Credentials, ScramNonce,
};
use crate::proto::wire::{self, BackendMessage, DbError, ProtocolVersion};

/// The highest number of messages before the first ReadyForQuery. A real server sends about twenty.
pub const STARTUP_MESSAGES_MAX: u32 = 1_000;

/// The highest number of bytes before the first ReadyForQuery: 1 MiB. A real server sends less than 1 KiB.
pub const STARTUP_BYTES_MAX: usize = 1024 * 1024;

/// The default timeout of LISTEN and UNLISTEN. The first LISTEN of a session reads the whole notification queue of the
/// server, which is long if another listener does not read.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// The settings of a login. It is for one session, because a nonce must not be used twice.
#[derive(Debug)]
pub struct Login {
    pub(crate) credentials: Credentials,
    pub(crate) policy: AuthPolicy,
    pub(crate) nonce: ScramNonce,
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) protocol: ProtocolVersion,
    pub(crate) min_protocol: ProtocolVersion,
    pub(crate) deadline: Instant,
    pub(crate) command_timeout: Duration,
}

impl Login {
    /// Creates the login of a user. The session must be ready at `deadline`. `nonce` are random bytes for SCRAM.
    #[must_use]
    pub fn new(credentials: Credentials, nonce: ScramNonce, deadline: Instant) -> Self {
        Self {
            credentials,
            policy: AuthPolicy::default(),
            nonce,
            parameters: Vec::new(),
            protocol: ProtocolVersion::V3_0,
            min_protocol: ProtocolVersion::V3_0,
            deadline,
            command_timeout: COMMAND_TIMEOUT,
        }
    }

    /// Sets the policy of the client for authentication.
    #[must_use]
    pub fn policy(mut self, policy: AuthPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Adds a startup parameter besides `user`: `database`, `application_name`, `options` and the like.
    /// `client_encoding` is always sent, as `UTF8`.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// Sets the newest protocol version, which is requested: by default [`V3_0`](ProtocolVersion::V3_0), or
    /// [`V3_2`](ProtocolVersion::V3_2) for a longer cancel key. The server may negotiate an older one.
    #[must_use]
    pub fn protocol(mut self, version: ProtocolVersion) -> Self {
        self.protocol = version;
        self
    }

    /// Sets the oldest protocol version that is accepted, by default [`V3_0`](ProtocolVersion::V3_0).
    #[must_use]
    pub fn min_protocol(mut self, version: ProtocolVersion) -> Self {
        self.min_protocol = version;
        self
    }

    /// Sets the timeout of LISTEN and UNLISTEN, from the moment when they are the oldest command: by default 30 s.
    #[must_use]
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.command_timeout = timeout;
        self
    }
}

/// The state of the startup.
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
            SessionPhase::Startup { startup, .. } => startup.count(bytes),
            _ => Ok(()),
        }
    }

    pub(super) fn handle_startup(&mut self, message: &BackendMessage<'_>) -> Result<(), Error> {
        let SessionPhase::Startup { startup, .. } = &mut self.phase else { return Ok(()) };
        match message {
            BackendMessage::Authentication(_) => {
                self.was_asked = true;
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
                self.phase = SessionPhase::Ready;
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

    /// Counts a message, because a server must not extend the startup without a limit.
    pub(super) fn count(&mut self, bytes: usize) -> Result<(), Violation> {
        self.messages = self.messages.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.messages > STARTUP_MESSAGES_MAX || self.bytes > STARTUP_BYTES_MAX {
            return Err(Violation::EndlessStartup);
        }
        Ok(())
    }

    /// Checks that a message of this length is below the limit.
    pub(super) fn check_room(&self, bytes: usize) -> Result<(), Violation> {
        match self.bytes.saturating_add(bytes) <= STARTUP_BYTES_MAX {
            true => Ok(()),
            false => Err(Violation::EndlessStartup),
        }
    }

    /// Handles an Authentication message. Returns the body of the `p` message to send.
    pub(super) fn authenticate(
        &mut self,
        message: &BackendMessage<'_>,
    ) -> Result<Option<crate::proto::auth::Response>, Error> {
        let BackendMessage::Authentication(request) = message else { return Ok(None) };
        if self.is_authenticated() || self.computing {
            return Err(Violation::unexpected(message, "this moment of the startup").into());
        }
        self.negotiation.settle()?;
        let step = self.authenticator.handle(request)?;
        Ok(self.step(step))
    }

    /// Carries out at most 1,000 iterations of the key derivation.
    pub(super) fn compute(&mut self) -> Result<Option<crate::proto::auth::Response>, Error> {
        if !self.computing {
            return Ok(None);
        }
        self.computing = false;
        let step = self.authenticator.compute()?;
        Ok(self.step(step))
    }

    fn step(&mut self, step: AuthStep) -> Option<crate::proto::auth::Response> {
        match step {
            AuthStep::Send(response) => return Some(response),
            AuthStep::Compute => self.computing = true,
            AuthStep::Wait => {}
            AuthStep::Done(method) => self.method = Some(method),
        }
        None
    }

    /// Returns the error of a refused login, or of a session that the server ended before it was ready.
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

/// Returns the error of a login that has timed out.
#[cold]
pub(super) fn timed_out(authenticated: bool) -> Error {
    let message = if authenticated {
        "the server accepted the login and was not ready in time"
    } else {
        "the server did not complete authentication in time"
    };
    Error::new(ErrorKind::Timeout, message)
}

/// Returns the error of a login that has timed out while keys were derived.
#[cold]
pub(super) fn computed_too_long() -> Error {
    let message = "the login timed out, because the server asks for very many SCRAM iterations";
    Error::new(ErrorKind::Timeout, message)
        .with_hint("raise connect_timeout, or lower scram_iterations_max to refuse them at once")
}

/// Returns the error of a message in the format of protocol 2, which a server sends if it cannot start a backend.
#[cold]
pub(super) fn legacy_error(text: &[u8]) -> Error {
    let text = String::from_utf8_lossy(text);
    Error::new(
        ErrorKind::Connect,
        format!("the server refused the connection: {}", wire::escape::Escaped(text.trim_end())),
    )
}
