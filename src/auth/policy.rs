//! What the client agrees to.

use std::fmt;
use std::str::FromStr;

use super::error::{AuthError, Obstacle, Refusal};
use super::require::RequireAuth;
use super::scram::{SCRAM_ITERATIONS_MAX, SCRAM_ITERATIONS_MIN};

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

impl AuthMethod {
    /// Each of them.
    pub(super) const ALL: [Self; 5] =
        [Self::Trust, Self::Password, Self::Md5, Self::ScramSha256, Self::ScramSha256Plus];
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

/// What the bytes travel through, as far as it matters for passwords and channel binding.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Channel {
    /// TCP without encryption, to this machine too: whoever took the port would be sent the password.
    #[default]
    Clear,
    /// A Unix socket whose server can be trusted with a password: it runs as root, as `postgres`, as ourselves, or as
    /// the account that the user named. N191.
    Local,
    /// A Unix socket of any other account. Counts as the clear: in a directory such as `/tmp` any local user can listen.
    UntrustedLocal {
        /// The account's number, as far as it is known.
        uid: Option<u32>,
    },
    /// TLS.
    Tls {
        /// Hash of the server's certificate for `tls-server-end-point` (RFC 5929), or `None` where
        /// none is defined: for Ed25519 and the like. N28.
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
///
/// All of it is decided before anything is answered: a method that is refused costs a server no byte
/// of the password, nor of what is made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthPolicy {
    pub(super) channel: Channel,
    pub(super) channel_binding: ChannelBinding,
    pub(super) require_auth: Option<RequireAuth>,
    pub(super) allow_cleartext: bool,
    pub(super) server_verified: bool,
    pub(super) opportunistic: bool,
    pub(super) scram_iterations_min: u32,
    pub(super) scram_iterations_max: u32,
}

impl Default for AuthPolicy {
    fn default() -> Self {
        Self {
            channel: Channel::Clear,
            channel_binding: ChannelBinding::Prefer,
            require_auth: None,
            allow_cleartext: false,
            server_verified: false,
            opportunistic: false,
            scram_iterations_min: SCRAM_ITERATIONS_MIN,
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

    /// Whether SCRAM is bound to the TLS channel. Default: [`ChannelBinding::Prefer`].
    #[must_use]
    pub fn channel_binding(mut self, channel_binding: ChannelBinding) -> Self {
        self.channel_binding = channel_binding;
        self
    }

    /// The methods that the server may use. Default: any that is spoken.
    #[must_use]
    pub fn require_auth(mut self, require_auth: RequireAuth) -> Self {
        self.require_auth = Some(require_auth);
        self
    }

    /// Whether a server that asks for the password in clear gets it over an unencrypted TCP connection, on the Unix
    /// socket of any account, and over [opportunistic](Self::opportunistic) TLS, too. Default: no; a `require_auth` that
    /// names `password` is as good. libpq sends it anywhere.
    #[must_use]
    pub fn allow_cleartext(mut self, allow: bool) -> Self {
        self.allow_cleartext = allow;
        self
    }

    /// Whether the certificate of the server was verified: by an authority that is trusted, or because it is one that was
    /// given. Default: no. It counts under [`Channel::Tls`] alone.
    ///
    /// Without it, a machine between client and server may have chosen the certificate. If that certificate has no hash
    /// (N28), and the server offers channel binding, the login is refused with [`AuthError::CannotBind`] unless binding
    /// is disabled.
    #[must_use]
    pub fn server_verified(mut self, verified: bool) -> Self {
        self.server_verified = verified;
        self
    }

    /// Whether TLS is used only because the server offered it: `sslmode=prefer` and `allow`. Default: no. Without a
    /// [verified](Self::server_verified) certificate the password in clear is then not sent, as without TLS.
    #[must_use]
    pub fn opportunistic(mut self, opportunistic: bool) -> Self {
        self.opportunistic = opportunistic;
        self
    }

    /// Fewest SCRAM iterations that the server may ask for. Default: [`SCRAM_ITERATIONS_MIN`]. From the answer to a fake
    /// server the password can be guessed, and each iteration makes each guess slower.
    #[must_use]
    pub fn scram_iterations_min(mut self, iterations: u32) -> Self {
        self.scram_iterations_min = iterations;
        self
    }

    /// Most SCRAM iterations to compute. Default: [`SCRAM_ITERATIONS_MAX`].
    #[must_use]
    pub fn scram_iterations_max(mut self, iterations: u32) -> Self {
        self.scram_iterations_max = iterations;
        self
    }

    /// Whether any server could satisfy it, over some channel: to be asked before anybody is called.
    ///
    /// # Errors
    /// [`AuthError::Unsatisfiable`] when `require_auth`, with `channel_binding`, leaves nothing that is
    /// spoken.
    pub fn check(&self) -> Result<(), AuthError> {
        let require = self.channel_binding == ChannelBinding::Require;
        let possible = AuthMethod::ALL.into_iter().any(|method| {
            let bound = method == AuthMethod::ScramSha256Plus;
            (bound || !require) && self.require_auth.is_none_or(|list| list.allows(method))
        });
        if let Some(require_auth) = self.require_auth.filter(|_| !possible) {
            let channel_binding = self.channel_binding;
            return Err(AuthError::Unsatisfiable { require_auth, channel_binding });
        }
        Ok(())
    }

    /// Whether any server could satisfy it over this channel: to be asked before the first byte is sent
    /// through it.
    ///
    /// # Errors
    /// As [`check`](Self::check); [`AuthError::NoChannelBinding`] when it is required over a channel that
    /// cannot be bound.
    pub fn check_channel(&self) -> Result<(), AuthError> {
        self.check()?;
        let obstacle = match &self.channel {
            _ if self.channel_binding != ChannelBinding::Require => return Ok(()),
            Channel::Tls { end_point: Some(_) } => return Ok(()),
            Channel::Tls { end_point: None } => Obstacle::NoHash,
            Channel::Clear | Channel::Local | Channel::UntrustedLocal { .. } => Obstacle::NoTls,
        };
        Err(AuthError::NoChannelBinding { obstacle })
    }

    /// Whether this method may be answered, or believed where there is nothing to answer.
    pub(super) fn permit(&self, method: AuthMethod) -> Result<(), AuthError> {
        self.check_channel()?;
        let is_bound = method == AuthMethod::ScramSha256Plus;
        let refusal = match self.require_auth {
            _ if self.channel_binding == ChannelBinding::Require && !is_bound => {
                Refusal::ChannelBinding
            }
            Some(list) if !list.allows(method) => Refusal::RequireAuth(list),
            _ if method != AuthMethod::Password || self.password_is_allowed() => return Ok(()),
            _ => match self.channel {
                Channel::Clear => Refusal::Cleartext,
                Channel::UntrustedLocal { uid } => Refusal::Account { uid },
                Channel::Tls { .. } if self.opportunistic && !self.server_verified => {
                    Refusal::Unverified
                }
                Channel::Tls { .. } | Channel::Local => return Ok(()),
            },
        };
        Err(AuthError::Refused { method, refusal })
    }

    /// Whether the password may go in clear through any channel.
    fn password_is_allowed(&self) -> bool {
        self.allow_cleartext
            || self.require_auth.is_some_and(|list| list.names(AuthMethod::Password))
    }

    /// Whether binding is wanted and the channel is one that a server can bind to. It says nothing of whether we can.
    pub(super) fn seeks_binding(&self) -> bool {
        let is_tls = matches!(self.channel, Channel::Tls { .. });
        is_tls && self.channel_binding != ChannelBinding::Disable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_channel_binding_are_those_of_libpq() {
        for (word, binding) in [
            ("disable", ChannelBinding::Disable),
            ("prefer", ChannelBinding::Prefer),
            ("require", ChannelBinding::Require),
        ] {
            assert_eq!(word.parse(), Ok(binding));
            assert_eq!(binding.to_string(), word);
        }
        for word in ["", "Require", "required", " require", "allow"] {
            assert_eq!(word.parse::<ChannelBinding>(), Err(ChannelBindingError), "{word}");
        }
    }
}
