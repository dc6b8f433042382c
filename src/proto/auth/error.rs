//! The errors of authentication.

use std::fmt;

use super::policy::{AuthMethod, ChannelBinding};
use super::require::RequireAuth;
use super::saslprep::NonAsciiPassword;
use super::scram::ScramError;
use crate::error::{Error, ErrorKind};
use crate::proto::wire::escape::Escaped;

/// Why the client cannot log in. After any of these errors the [`Authenticator`](super::Authenticator) returns only
/// errors, and nothing more may be sent: close the connection.
///
/// Contains no password, key or proof. Text of the server is escaped in `Display`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthError {
    /// The server violated the protocol of the exchange.
    Violation {
        /// The expected request.
        expected: &'static str,
        /// The received request.
        found: &'static str,
    },
    /// The SCRAM exchange failed because of the server, or, with [`ScramError::TooManyIterations`] and
    /// [`ScramError::TooFewIterations`], because of the policy.
    Scram(ScramError),
    /// The server requests a method that this crate does not support.
    Unsupported {
        /// The code of the AuthenticationRequest message.
        code: i32,
    },
    /// The server offers no SASL mechanism that this crate supports.
    NoMechanism {
        /// The offered names, as sent and separated by commas. Escaped in `Display`.
        offered: String,
    },
    /// The server requests a password, and there is none.
    NoPassword {
        /// The requested method.
        method: AuthMethod,
    },
    /// The policy does not permit the method. Nothing was sent.
    Refused {
        /// The requested method; [`AuthMethod::Trust`] if the server requested none.
        method: AuthMethod,
        /// The part of the policy that forbids it.
        refusal: AuthRefusal,
    },
    /// Channel binding is required and not possible. Nothing was sent.
    NoChannelBinding {
        /// The reason.
        obstacle: Obstacle,
    },
    /// The server offers channel binding, its certificate has no hash to bind to, and the certificate was not verified: an
    /// attacker between client and server may have chosen it. Nothing was sent.
    CannotBind,
    /// The policy permits no supported method. Nothing was sent.
    Unsatisfiable {
        /// The permitted methods.
        require_auth: RequireAuth,
        /// If it is `Require`, it may contradict `require_auth`.
        channel_binding: ChannelBinding,
    },
    /// The user name or the password cannot be sent. Nothing was sent.
    Credentials {
        /// The problem, without the value.
        problem: &'static str,
    },
    /// The password is not plain ASCII, and this build cannot prepare it for SCRAM.
    NonAsciiPassword,
    /// A call that the state does not allow: a mistake of the caller.
    Misuse {
        /// The call, and why it was wrong.
        problem: &'static str,
    },
}

/// The part of the policy that forbids a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthRefusal {
    /// The password would be sent in clear.
    Cleartext,
    /// The server at the other end of the Unix socket runs as an account to which the password must not be sent in clear.
    Account {
        /// The id of the account, if it is known.
        uid: Option<u32>,
    },
    /// The password would be sent in clear, under TLS that is only preferred, to a server that was not verified.
    Unverified,
    /// `require_auth` does not allow it.
    RequireAuth(RequireAuth),
    /// `channel_binding=require` allows only SCRAM-SHA-256-PLUS.
    ChannelBinding,
}

/// Why the exchange cannot be bound to the TLS channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Obstacle {
    /// The connection is not encrypted.
    NoTls,
    /// The signature algorithm of the server's certificate has no hash: Ed25519 and the like.
    // N28.
    NoHash,
    /// The server does not offer SCRAM-SHA-256-PLUS.
    NotOffered,
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation { expected, found } => write!(f, "expected {expected}, found {found}"),
            Self::Scram(error) => error.fmt(f),
            Self::Unsupported { code } => match method_name(*code) {
                Some(name) => {
                    write!(f, "server asks for {name} (code {code}), which is not supported")
                }
                None => write!(f, "server asks for authentication code {code}, which is not known"),
            },
            Self::NoMechanism { offered } => write!(
                f,
                "expected SCRAM-SHA-256 among the SASL mechanisms, found {}",
                Escaped(offered)
            ),
            Self::NoPassword { method } => {
                write!(f, "server asks for a password (method {method}) and none was given")
            }
            Self::Refused { method, refusal } => refusal.describe(*method, f),
            Self::NoChannelBinding { obstacle } => {
                write!(f, "channel_binding=require cannot be met: {obstacle}")
            }
            Self::CannotBind => write!(
                f,
                "the server offers channel binding, and its certificate was not verified: \
                 channel_binding=prefer cannot be met, because {}",
                Obstacle::NoHash
            ),
            Self::Unsatisfiable { require_auth, channel_binding: ChannelBinding::Require } => {
                write!(
                    f,
                    "channel_binding=require needs scram-sha-256, which require_auth={require_auth} \
                     does not allow"
                )
            }
            Self::Unsatisfiable { require_auth, .. } => {
                write!(f, "require_auth={require_auth} allows no method that is supported")
            }
            Self::Credentials { problem } | Self::Misuse { problem } => f.write_str(problem),
            Self::NonAsciiPassword => NonAsciiPassword.fmt(f),
        }
    }
}

impl std::error::Error for AuthError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // `Display` contains the text of `Scram` and `NonAsciiPassword`, which must not be shown twice.
        None
    }
}

impl From<ScramError> for AuthError {
    fn from(error: ScramError) -> Self {
        Self::Scram(error)
    }
}

impl From<NonAsciiPassword> for AuthError {
    fn from(NonAsciiPassword: NonAsciiPassword) -> Self {
        Self::NonAsciiPassword
    }
}

impl AuthRefusal {
    fn describe(self, method: AuthMethod, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asks = match method {
            AuthMethod::Trust => "server asks for no authentication".to_owned(),
            method => format!("server asks for method {method}"),
        };
        match self {
            Self::Cleartext => {
                write!(f, "{asks}, and the password would be sent in clear")
            }
            Self::Account { uid: Some(uid) } => write!(
                f,
                "{asks} and runs as account number {uid}, which is neither root, postgres nor the one of this process"
            ),
            Self::Account { uid: None } => {
                write!(f, "{asks}, and the account that it runs as is not known")
            }
            Self::Unverified => write!(
                f,
                "{asks}, TLS is only preferred, and the certificate was not verified: the password would be sent in \
                 clear to any server"
            ),
            Self::RequireAuth(list) => {
                write!(f, "{asks}, which require_auth={list} does not allow")
            }
            Self::ChannelBinding => {
                write!(f, "{asks}, which channel_binding=require does not allow")
            }
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoTls => "the connection is not encrypted",
            Self::NoHash => {
                "the signature algorithm of the server's certificate (Ed25519 and the like) defines no \
                 hash to bind to"
            }
            Self::NotOffered => "the server does not offer SCRAM-SHA-256-PLUS",
        })
    }
}

impl AuthError {
    /// Returns whether another password could prevent the error.
    #[allow(dead_code, reason = "used only by `net`, which is optional")]
    pub(crate) fn is_about_password(&self) -> bool {
        matches!(self, Self::NoPassword { .. } | Self::NonAsciiPassword | Self::Credentials { .. })
    }

    /// Returns what the user can do about the error.
    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Refused { refusal: AuthRefusal::Cleartext, .. } => {
                "use TLS (sslmode=verify-full), give the role scram-sha-256, or allow it with \
                 require_auth=password"
            }
            Self::Refused { refusal: AuthRefusal::Account { .. }, .. } => {
                "any local user may listen on a socket in a directory such as /tmp: set requirepeer to the account \
                 of the server, give the role scram-sha-256, or allow any account with require_auth=password"
            }
            Self::Refused { refusal: AuthRefusal::Unverified, .. } => {
                "verify the server (sslmode=verify-full with sslrootcert), give the role scram-sha-256, or allow it \
                 with sslmode=require or require_auth=password"
            }
            Self::Refused { refusal: AuthRefusal::ChannelBinding, .. } => {
                "give the role scram-sha-256 in pg_hba.conf and a password that is stored so, or set \
                 channel_binding=prefer"
            }
            Self::Refused { method: AuthMethod::Trust, .. } => {
                "trust, peer, ident and cert look like this, and so does an impostor of the server: \
                 change pg_hba.conf, or allow it with require_auth=none"
            }
            Self::Refused { .. } => {
                "pg_hba.conf and the form in which the role's password is stored decide the method: \
                 change them, or allow the method in require_auth"
            }
            Self::NoChannelBinding { obstacle } => match obstacle {
                Obstacle::NoTls => "use TLS (sslmode=verify-full)",
                Obstacle::NoHash => {
                    "have the certificate signed with RSA or ECDSA, or set channel_binding=prefer with \
                     sslmode=verify-full"
                }
                Obstacle::NotOffered => {
                    "a pooler or proxy that ends the TLS, or a server before PostgreSQL 11, cannot \
                     offer it: connect directly to the server, or set channel_binding=prefer"
                }
            },
            Self::CannotBind => {
                "verify the server (sslmode=verify-full with sslrootcert), have its certificate signed with RSA or \
                 ECDSA, or set channel_binding=disable"
            }
            Self::Unsatisfiable { channel_binding: ChannelBinding::Require, .. } => {
                "allow scram-sha-256, or set channel_binding=prefer"
            }
            Self::Unsatisfiable { .. } => {
                "name one of scram-sha-256, md5, password and none in require_auth"
            }
            Self::Scram(ScramError::TooFewIterations { .. }) => {
                "set the role's password again with scram_iterations of at least 4096, or lower scram_iterations_min; \
                 an impostor of the server looks like this too"
            }
            Self::Scram(ScramError::TooManyIterations { .. }) => {
                "raise scram_iterations_max, and connect_timeout if they take long"
            }
            Self::NoPassword { .. } => "set password, PGPASSWORD or a password file",
            Self::Unsupported { .. } => {
                "pgbell supports scram-sha-256, md5, password and client certificates: give the role one \
                 of them in pg_hba.conf"
            }
            Self::NoMechanism { offered } if offered.contains("OAUTHBEARER") => {
                "OAuth is not supported: give the role scram-sha-256 in pg_hba.conf"
            }
            _ => return None,
        })
    }
}

impl From<AuthError> for Error {
    #[cold]
    fn from(error: AuthError) -> Self {
        let kind = match &error {
            AuthError::Violation { .. } => ErrorKind::Protocol,
            AuthError::Scram(error) => match error {
                // The server may be an impostor, or the passwords of the two sides differ.
                ScramError::WrongServerSignature
                | ScramError::Refused { .. }
                | ScramError::NonceMismatch { .. }
                | ScramError::NonceNotExtended
                | ScramError::ChannelBinding { .. }
                | ScramError::TooFewIterations { .. }
                | ScramError::TooManyIterations { .. } => ErrorKind::Auth,
                ScramError::TooLong { .. }
                | ScramError::Malformed { .. }
                | ScramError::MandatoryExtension { .. }
                | ScramError::OutOfOrder { .. } => ErrorKind::Protocol,
            },
            AuthError::Unsupported { .. }
            | AuthError::NoMechanism { .. }
            | AuthError::NonAsciiPassword => ErrorKind::Unsupported,
            AuthError::NoPassword { .. }
            | AuthError::Refused { .. }
            | AuthError::NoChannelBinding { .. }
            | AuthError::CannotBind => ErrorKind::Auth,
            AuthError::Unsatisfiable { .. } | AuthError::Credentials { .. } => ErrorKind::Config,
            AuthError::Misuse { .. } => ErrorKind::Misuse,
        };
        let hint = error.hint();
        let error = Self::because(kind, error);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// Returns the name of the method of an AuthenticationRequest that is not supported.
// N20.
fn method_name(code: i32) -> Option<&'static str> {
    match code {
        1 => Some("Kerberos 4"),
        2 => Some("Kerberos 5"),
        4 => Some("crypt"),
        6 => Some("SCM credentials"),
        7 | 8 => Some("GSSAPI"),
        9 => Some("SSPI"),
        _ => None,
    }
}
