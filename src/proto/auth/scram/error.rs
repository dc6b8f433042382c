//! The errors of a SCRAM exchange.

use std::fmt;

use crate::proto::wire::escape::Escaped;

/// The four messages of the exchange, with the names of RFC 5802.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ScramMessage {
    /// `client-first-message`, in SASLInitialResponse.
    ClientFirst,
    /// `server-first-message`, in AuthenticationSASLContinue.
    ServerFirst,
    /// `client-final-message`, in SASLResponse.
    ClientFinal,
    /// `server-final-message`, in AuthenticationSASLFinal.
    ServerFinal,
}

impl fmt::Display for ScramMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientFirst => "client-first-message",
            Self::ServerFirst => "server-first-message",
            Self::ClientFinal => "client-final-message",
            Self::ServerFinal => "server-final-message",
        })
    }
}

/// Why a SCRAM exchange failed. After any of these errors, every further call fails.
///
/// Contains no nonce, salt, key or proof.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScramError {
    /// A call or a message that the state does not allow.
    OutOfOrder {
        /// The call or the message.
        call: &'static str,
        /// The state.
        state: &'static str,
    },
    /// A message longer than [`SCRAM_MESSAGE_BYTES_MAX`](super::SCRAM_MESSAGE_BYTES_MAX).
    TooLong {
        /// The message.
        message: ScramMessage,
        /// Its length in bytes.
        found: usize,
    },
    /// A message that does not follow the grammar of RFC 5802.
    Malformed {
        /// The message.
        message: ScramMessage,
        /// The problem.
        problem: &'static str,
    },
    /// A mandatory extension (`m=`). The exchange must fail if it is not known, and none is.
    MandatoryExtension {
        /// The message that contains it.
        message: ScramMessage,
    },
    /// The nonce does not begin with the client's, or is not the one of the first messages: the message belongs to
    /// another exchange.
    NonceMismatch {
        /// The message that contains it.
        message: ScramMessage,
    },
    /// The server added nothing to the client's nonce: its message could be a recorded one.
    NonceNotExtended,
    /// More PBKDF2 iterations than allowed. None was computed.
    TooManyIterations {
        /// The requested number.
        found: u64,
        /// The allowed number.
        max: u32,
    },
    /// Fewer PBKDF2 iterations than allowed. None was computed: it would be easy to try passwords against the proof.
    TooFewIterations {
        /// The requested number.
        found: u64,
        /// The allowed number.
        min: u32,
    },
    /// The server ended the exchange with `e=`.
    Refused {
        /// The server's error, as sent. Escaped in `Display`.
        error: String,
    },
    /// The server does not have the verifier of the password: it is not the server of the role.
    WrongServerSignature,
    /// Channel binding that is not available, or that contradicts the first message.
    ChannelBinding {
        /// The problem.
        problem: &'static str,
    },
}

impl fmt::Display for ScramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfOrder { call, state } => write!(f, "{call} while {state}"),
            Self::TooLong { message, found } => write!(
                f,
                "{message} of {found} bytes exceeds {} bytes",
                super::SCRAM_MESSAGE_BYTES_MAX
            ),
            Self::Malformed { message, problem } => write!(f, "{problem} in {message}"),
            Self::MandatoryExtension { message } => {
                write!(f, "mandatory extension (m=) in {message} is not known")
            }
            Self::NonceMismatch { message } => {
                write!(f, "nonce in {message} does not belong to this exchange")
            }
            Self::NonceNotExtended => {
                write!(f, "server added nothing to the nonce in {}", ScramMessage::ServerFirst)
            }
            Self::TooManyIterations { found, max } => {
                write!(f, "server asks for {found} SCRAM iterations, more than the {max} allowed")
            }
            Self::TooFewIterations { found, min } => {
                write!(f, "server asks for {found} SCRAM iterations, fewer than the {min} required")
            }
            Self::Refused { error } => {
                write!(f, "server ended the SCRAM exchange: {}", Escaped(error))
            }
            Self::WrongServerSignature => {
                f.write_str("server signature is wrong: the server does not know the password")
            }
            Self::ChannelBinding { problem } => write!(f, "channel binding: {problem}"),
        }
    }
}

impl std::error::Error for ScramError {}
