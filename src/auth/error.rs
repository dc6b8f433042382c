//! Why authentication failed, and who is to blame.

use std::fmt;

use super::policy::AuthMethod;
use super::saslprep::NonAsciiPassword;
use super::scram::ScramError;
use crate::{Error, ErrorKind};

/// Why the client cannot log in. After any of these the [`Authenticator`](super::Authenticator) is
/// spent and nothing more may be sent but the closing of the connection.
///
/// Holds no password, key or proof. Text of the server's is escaped in `Display`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthError {
    /// The server broke the rules of the exchange.
    Violation {
        /// What would have been right.
        expected: &'static str,
        /// What came.
        found: &'static str,
    },
    /// The SCRAM exchange failed: the server's fault, but for [`ScramError::TooManyIterations`],
    /// which the policy refuses.
    Scram(ScramError),
    /// The server asks for a method that this crate does not speak.
    Unsupported {
        /// Code of the AuthenticationRequest message.
        code: i32,
    },
    /// The server offers no SASL mechanism that this crate speaks.
    NoMechanism {
        /// The names offered, as sent, with commas between: escaped in `Display`.
        offered: String,
    },
    /// The server asks for a password and none was given.
    NoPassword {
        /// How it asks.
        method: AuthMethod,
    },
    /// The policy forbids to answer. Nothing was sent.
    Refused {
        /// What was asked for.
        method: AuthMethod,
        /// Why that is not given.
        reason: &'static str,
    },
    /// User or password cannot be sent at all. Nothing was sent.
    Credentials {
        /// What is wrong, without the value.
        problem: &'static str,
    },
    /// The password is not plain ASCII, and this build cannot prepare it for SCRAM.
    NonAsciiPassword,
    /// A call that the state does not allow: the caller's mistake.
    Misuse {
        /// What was called, and when it would have been right.
        problem: &'static str,
    },
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation { expected, found } => write!(f, "expected {expected}, found {found}"),
            Self::Scram(error) => error.fmt(f),
            Self::Unsupported { code } => match method_name(*code) {
                Some(name) => {
                    write!(f, "server asks for {name} (code {code}), which is not spoken")
                }
                None => write!(f, "server asks for authentication code {code}, which is not known"),
            },
            Self::NoMechanism { offered } => write!(
                f,
                "expected SCRAM-SHA-256 among the SASL mechanisms, found {}",
                offered.escape_debug()
            ),
            Self::NoPassword { method } => {
                write!(f, "server asks for a password (method {method}) and none was given")
            }
            Self::Refused { method, reason } => write!(f, "method {method} is refused: {reason}"),
            Self::Credentials { problem } | Self::Misuse { problem } => f.write_str(problem),
            Self::NonAsciiPassword => NonAsciiPassword.fmt(f),
        }
    }
}

impl std::error::Error for AuthError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The text of a cause is shown once: `Scram` and `NonAsciiPassword` speak through this one.
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

impl From<AuthError> for Error {
    #[cold]
    fn from(error: AuthError) -> Self {
        let (kind, message) = match &error {
            AuthError::Violation { .. } => {
                (ErrorKind::Protocol, "the server broke the authentication exchange")
            }
            AuthError::Scram(error) => match error {
                // Who answered may not be who was meant, or the two sides disagree on the secret.
                ScramError::WrongServerSignature
                | ScramError::Refused { .. }
                | ScramError::NonceMismatch { .. }
                | ScramError::NonceNotExtended
                | ScramError::ChannelBinding { .. }
                | ScramError::TooManyIterations { .. } => {
                    (ErrorKind::Auth, "the SCRAM exchange failed")
                }
                ScramError::TooLong { .. }
                | ScramError::Malformed { .. }
                | ScramError::MandatoryExtension { .. }
                | ScramError::OutOfOrder { .. } => {
                    (ErrorKind::Protocol, "the server broke the SCRAM exchange")
                }
            },
            AuthError::Unsupported { .. } | AuthError::NoMechanism { .. } => {
                (ErrorKind::Unsupported, "the server's authentication method")
            }
            AuthError::NonAsciiPassword => (ErrorKind::Unsupported, "the password"),
            AuthError::NoPassword { .. } => (ErrorKind::Auth, "no password"),
            AuthError::Refused { .. } => (ErrorKind::Auth, "the policy forbids the method"),
            AuthError::Credentials { .. } => (ErrorKind::Config, "the credentials"),
            AuthError::Misuse { .. } => (ErrorKind::Misuse, "the authentication exchange"),
        };
        Self::caused(kind, message, error)
    }
}

/// The server's name for a code of AuthenticationRequest that is not spoken. N20.
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
