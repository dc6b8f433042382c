//! What can go wrong in a SCRAM exchange.

use std::fmt;

use crate::wire::escape::Escaped;

/// The four messages of the exchange, by RFC 5802's names.
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

/// Why a SCRAM exchange failed. After any of these the machine that said so is spent.
///
/// Holds no nonce, salt, key or proof.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScramError {
    /// A call that the state does not allow: a mistake of the caller, or a message out of turn.
    OutOfOrder {
        /// What was called.
        call: &'static str,
        /// What the machine was doing.
        state: &'static str,
    },
    /// A message above [`SCRAM_MESSAGE_BYTES_MAX`](super::SCRAM_MESSAGE_BYTES_MAX).
    TooLong {
        /// Which message.
        message: ScramMessage,
        /// Its length in bytes.
        found: usize,
    },
    /// A message that does not follow RFC 5802's grammar.
    Malformed {
        /// Which message.
        message: ScramMessage,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A mandatory extension (`m=`): whoever does not know it has to give up.
    MandatoryExtension {
        /// Where it stood.
        message: ScramMessage,
    },
    /// The nonce does not begin with ours, or is not the one agreed on: another exchange's message.
    NonceMismatch {
        /// Where it stood.
        message: ScramMessage,
    },
    /// The server added nothing to our nonce, so that its answer could be a recorded one.
    NonceNotExtended,
    /// More PBKDF2 iterations than allowed. Refused before any was computed.
    TooManyIterations {
        /// What was asked for.
        found: u64,
        /// What is allowed.
        max: u32,
    },
    /// Fewer PBKDF2 iterations than allowed. Refused before anything was computed: the proof would make it cheap to guess
    /// the password.
    TooFewIterations {
        /// What was asked for.
        found: u64,
        /// What is allowed.
        min: u32,
    },
    /// The server ended the exchange with `e=`.
    Refused {
        /// Its word, as sent: escaped in `Display`.
        error: String,
    },
    /// The server does not know the password's verifier: it is not the server that the role is on.
    WrongServerSignature,
    /// Channel binding that cannot be given, or that contradicts the first message.
    ChannelBinding {
        /// What is wrong with it.
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
                write!(f, "nonce in {message} is not of this exchange")
            }
            Self::NonceNotExtended => {
                write!(f, "server added nothing to the nonce in {}", ScramMessage::ServerFirst)
            }
            Self::TooManyIterations { found, max } => {
                write!(f, "server asks for {found} SCRAM iterations, more than the {max} allowed")
            }
            Self::TooFewIterations { found, min } => {
                write!(f, "server asks for {found} SCRAM iterations, fewer than the {min} demanded")
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
