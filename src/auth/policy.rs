//! Who logs in, what they know, and what they agree to.

use std::fmt;
use std::str::FromStr;

use super::error::AuthError;
use super::scram::SCRAM_ITERATIONS_MAX;
use super::secret::Password;

/// Who logs in, and the password, if there is one.
#[derive(Debug, Clone)]
pub struct Credentials {
    user: String,
    password: Option<Password>,
}

impl Credentials {
    /// A user without a password.
    ///
    /// # Errors
    /// [`AuthError::Credentials`] when the name contains a NUL, which would end it on the wire.
    pub fn new(user: impl Into<String>) -> Result<Self, AuthError> {
        let user = user.into();
        if user.contains('\0') {
            return Err(AuthError::Credentials { problem: "the user name contains a NUL" });
        }
        Ok(Self { user, password: None })
    }

    /// The same user with this password. An empty one is none at all, as in libpq. N21.
    ///
    /// # Errors
    /// [`AuthError::Credentials`] when it contains a NUL, which would end it on the wire.
    pub fn password(mut self, password: Password) -> Result<Self, AuthError> {
        if password.expose().contains(&0) {
            return Err(AuthError::Credentials { problem: "the password contains a NUL" });
        }
        self.password = Some(password).filter(|password| !password.expose().is_empty());
        Ok(self)
    }

    /// The name, as the startup message says it.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether there is a password to answer with.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    pub(super) fn password_for(&self, method: AuthMethod) -> Result<&Password, AuthError> {
        self.password.as_ref().ok_or(AuthError::NoPassword { method })
    }
}

/// How the server let the client in. `Display` gives the names of `pg_hba.conf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthMethod {
    /// Without asking: `trust`, `peer`, `cert` or `ident`, which look alike from here.
    Trust,
    /// The password in clear.
    Password,
    /// The MD5 response.
    Md5,
    /// SCRAM-SHA-256.
    ScramSha256,
    /// SCRAM-SHA-256 bound to the TLS channel.
    ScramSha256Plus,
}

impl fmt::Display for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Trust => "trust",
            Self::Password => "password",
            Self::Md5 => "md5",
            Self::ScramSha256 => "scram-sha-256",
            Self::ScramSha256Plus => "scram-sha-256-plus",
        })
    }
}

/// What the bytes travel through, as far as it matters for channel binding.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Channel {
    /// No encryption: TCP in the clear, or a Unix socket.
    #[default]
    Clear,
    /// TLS.
    Tls {
        /// Hash of the server's certificate for `tls-server-end-point` (RFC 5929), or `None` where
        /// none is defined (Ed25519 and the like) or binding is not wanted.
        end_point: Option<Vec<u8>>,
    },
}

/// libpq's `channel_binding`: whether SCRAM is bound to the TLS channel, which shows a server in the
/// middle that has a valid certificate but not the real server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where both sides can.
    #[default]
    Prefer,
    /// Always. Nothing is answered and nobody is believed without it.
    Require,
}

impl ChannelBinding {
    /// The word in a connection string.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
        }
    }
}

impl fmt::Display for ChannelBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ChannelBinding {
    type Err = ChannelBindingError;

    /// Reads the word of a connection string. Case matters, as in libpq.
    fn from_str(text: &str) -> Result<Self, ChannelBindingError> {
        [Self::Disable, Self::Prefer, Self::Require]
            .into_iter()
            .find(|binding| binding.as_str() == text)
            .ok_or(ChannelBindingError)
    }
}

/// A text is no value of `channel_binding`. Holds nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelBindingError;

impl fmt::Display for ChannelBindingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected disable, prefer or require")
    }
}

impl std::error::Error for ChannelBindingError {}

/// What the client agrees to. Setters take and return self.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthPolicy {
    pub(super) channel: Channel,
    pub(super) allow_cleartext: bool,
    pub(super) scram_iterations_max: u32,
}

impl Default for AuthPolicy {
    fn default() -> Self {
        Self {
            channel: Channel::Clear,
            allow_cleartext: true,
            scram_iterations_max: SCRAM_ITERATIONS_MAX,
        }
    }
}

impl AuthPolicy {
    /// What the connection runs through. Default: [`Channel::Clear`].
    #[must_use]
    pub fn channel(mut self, channel: Channel) -> Self {
        self.channel = channel;
        self
    }

    /// Whether a server that asks for the password in clear gets it. Default: yes.
    #[must_use]
    pub fn allow_cleartext(mut self, allow: bool) -> Self {
        self.allow_cleartext = allow;
        self
    }

    /// Most SCRAM iterations to compute. Default: [`SCRAM_ITERATIONS_MAX`].
    #[must_use]
    pub fn scram_iterations_max(mut self, iterations: u32) -> Self {
        self.scram_iterations_max = iterations;
        self
    }
}
