//! The rules by which the client accepts a server's request for authentication.

use std::fmt;
use std::str::FromStr;

use super::error::{AuthError, AuthRefusal, Obstacle};
use super::require::RequireAuth;
use super::scram::{SCRAM_ITERATIONS_MAX, SCRAM_ITERATIONS_MIN};

/// An authentication method. `Display` shows the names of `pg_hba.conf`.
///
/// ```no_run
/// # async fn example(connection: pgbell::Connection) {
/// use pgbell::AuthMethod;
///
/// if connection.auth_method() != Some(AuthMethod::ScramSha256Plus) {
///     println!("the login was not bound to TLS");
/// }
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthMethod {
    /// No request: `trust`, `peer`, `cert` or `ident`, which the client cannot distinguish.
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
    /// All methods.
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

/// The kind of connection, as far as it matters for passwords and channel binding.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Channel {
    /// TCP without encryption. Also to this machine: any local user may listen on the port.
    #[default]
    Clear,
    /// A Unix socket of a server to which a password may be sent in clear: it runs as root, as `postgres`, as the account
    /// of this process, or as the account that the user named.
    // N191.
    Local,
    /// A Unix socket of any other account. It is treated like [`Clear`](Self::Clear): in a directory such as `/tmp` any
    /// local user can listen.
    UntrustedLocal {
        /// The id of the account, if it is known.
        uid: Option<u32>,
    },
    /// TLS.
    Tls {
        /// The hash of the server's certificate for `tls-server-end-point` (RFC 5929), or `None` if
        /// none is defined: for Ed25519 and the like.
        // N28.
        end_point: Option<Vec<u8>>,
    },
}

/// libpq's `channel_binding`: whether SCRAM is bound to the TLS channel. Binding detects a server in the
/// middle that has a valid certificate, but not that of the real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// If both sides can.
    #[default]
    Prefer,
    /// Always. A server that does not do it is refused.
    Require,
}

impl ChannelBinding {
    /// Returns the word in a connection string.
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

    /// Parses the word of a connection string. Case matters, as in libpq.
    fn from_str(text: &str) -> Result<Self, ChannelBindingError> {
        [Self::Disable, Self::Prefer, Self::Require]
            .into_iter()
            .find(|binding| binding.as_str() == text)
            .ok_or(ChannelBindingError)
    }
}

/// A text is not a valid value of `channel_binding`. Contains no part of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelBindingError;

impl fmt::Display for ChannelBindingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected disable, prefer or require")
    }
}

impl std::error::Error for ChannelBindingError {}

/// The rules by which the client accepts a server's request for authentication. Setters take and return self.
///
/// They are applied before anything is answered: a server whose method is refused receives neither the password
/// nor anything that is derived from it.
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
    /// Sets the kind of connection. Default: [`Channel::Clear`].
    #[must_use]
    pub fn channel(mut self, channel: Channel) -> Self {
        self.channel = channel;
        self
    }

    /// Sets whether SCRAM is bound to the TLS channel. Default: [`ChannelBinding::Prefer`].
    #[must_use]
    pub fn channel_binding(mut self, channel_binding: ChannelBinding) -> Self {
        self.channel_binding = channel_binding;
        self
    }

    /// Sets the methods that the server may use. Default: all supported ones.
    #[must_use]
    pub fn require_auth(mut self, require_auth: RequireAuth) -> Self {
        self.require_auth = Some(require_auth);
        self
    }

    /// Sets whether the password is sent in clear, if the server requests it, over an unencrypted TCP connection, on the
    /// Unix socket of any account, and over [opportunistic](Self::opportunistic) TLS, too. Default: no. A `require_auth`
    /// that names `password` has the same effect. libpq sends the password over any connection.
    #[must_use]
    pub fn allow_cleartext(mut self, allow: bool) -> Self {
        self.allow_cleartext = allow;
        self
    }

    /// Sets whether the certificate of the server was verified: by a trusted authority, or because it is itself trusted.
    /// Default: no. Used only with [`Channel::Tls`].
    ///
    /// If it was not verified, an attacker between client and server may have chosen the certificate. If that certificate
    /// has no hash to bind to (Ed25519 and the like), and the server offers channel binding, the login is refused with
    /// [`AuthError::CannotBind`] unless binding is disabled.
    #[must_use]
    pub fn server_verified(mut self, verified: bool) -> Self {
        self.server_verified = verified;
        self
    }

    /// Sets whether TLS is used only because the server offered it: `sslmode=prefer` and `allow`. Default: no. Without a
    /// [verified](Self::server_verified) certificate the password is then not sent in clear, as without TLS.
    #[must_use]
    pub fn opportunistic(mut self, opportunistic: bool) -> Self {
        self.opportunistic = opportunistic;
        self
    }

    /// Sets the smallest number of SCRAM iterations that the server may request. Default: [`SCRAM_ITERATIONS_MIN`]. An
    /// impostor of the server can try passwords against the client's response, and each iteration makes a try slower.
    #[must_use]
    pub fn scram_iterations_min(mut self, iterations: u32) -> Self {
        self.scram_iterations_min = iterations;
        self
    }

    /// Sets the largest number of SCRAM iterations that the server may request. Default: [`SCRAM_ITERATIONS_MAX`].
    #[must_use]
    pub fn scram_iterations_max(mut self, iterations: u32) -> Self {
        self.scram_iterations_max = iterations;
        self
    }

    /// Checks whether any server could satisfy the policy, over any kind of connection. To be called before connecting.
    ///
    /// # Errors
    /// [`AuthError::Unsatisfiable`] if `require_auth` and `channel_binding` together allow no supported method.
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

    /// Checks whether any server could satisfy the policy over this kind of connection. To be called before anything is
    /// sent.
    ///
    /// # Errors
    /// As [`check`](Self::check); [`AuthError::NoChannelBinding`] if channel binding is required and not possible.
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

    /// Checks whether this method may be answered; for [`AuthMethod::Trust`], whether the login may be accepted.
    pub(super) fn permit(&self, method: AuthMethod) -> Result<(), AuthError> {
        self.check_channel()?;
        let is_bound = method == AuthMethod::ScramSha256Plus;
        let refusal = match self.require_auth {
            _ if self.channel_binding == ChannelBinding::Require && !is_bound => {
                AuthRefusal::ChannelBinding
            }
            Some(list) if !list.allows(method) => AuthRefusal::RequireAuth(list),
            _ if method != AuthMethod::Password || self.password_is_allowed() => return Ok(()),
            _ => match self.channel {
                Channel::Clear => AuthRefusal::Cleartext,
                Channel::UntrustedLocal { uid } => AuthRefusal::Account { uid },
                Channel::Tls { .. } if self.opportunistic && !self.server_verified => {
                    AuthRefusal::Unverified
                }
                Channel::Tls { .. } | Channel::Local => return Ok(()),
            },
        };
        Err(AuthError::Refused { method, refusal })
    }

    /// Returns whether the password may be sent in clear over any kind of connection.
    fn password_is_allowed(&self) -> bool {
        self.allow_cleartext
            || self.require_auth.is_some_and(|list| list.names(AuthMethod::Password))
    }

    /// Returns whether binding is not disabled and the server can bind to the connection. The client may still lack a hash.
    pub(super) fn seeks_binding(&self) -> bool {
        let is_tls = matches!(self.channel, Channel::Tls { .. });
        is_tls && self.channel_binding != ChannelBinding::Disable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_binding_has_the_words_of_libpq() {
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
