//! What an error of rustls means to the user.

use std::fmt;

use rustls::{AlertDescription, Error, InvalidMessage};

/// Why the stream of records ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    /// The bytes are not the beginning of a record.
    NotTls,
    /// A record is longer than allowed.
    TooLong,
    /// A record was forged, changed, or arrived out of order.
    Forged,
    /// The server ended the connection with this alert.
    Alert(AlertDescription),
    /// The limit of records under one key is reached, and TLS 1.2 cannot change the key.
    KeyExhausted,
    /// Any other error.
    Other(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::InvalidEmptyPayload
                | InvalidMessage::UnknownProtocolVersion,
            ) => Self::NotTls,
            Error::InvalidMessage(InvalidMessage::MessageTooLarge)
            | Error::PeerSentOversizedRecord => Self::TooLong,
            Error::DecryptError => Self::Forged,
            Error::AlertReceived(alert) => Self::Alert(alert),
            error => Self::Other(error),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTls => f.write_str("the server sent bytes that are not TLS"),
            Self::TooLong => f.write_str("the server sent a TLS record longer than any allowed"),
            Self::Forged => f.write_str(
                "a TLS record does not decrypt: it was changed on its way, or is not the server's",
            ),
            Self::Alert(alert) => {
                write!(f, "the server ended TLS with the alert {}", AlertName(*alert))
            }
            Self::KeyExhausted => f.write_str(
                "as many TLS records were sent as one key may protect, and TLS 1.2 cannot change the key",
            ),
            Self::Other(error) => write!(f, "the protocol of TLS was violated: {error}"),
        }
    }
}

/// The name of an alert as in the standard and OpenSSL: `unknown_ca`.
pub(super) struct AlertName(pub(super) AlertDescription);

impl fmt::Display for AlertName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let AlertDescription::Unknown(number) = self.0 {
            return write!(f, "number {number}");
        }
        let name = format!("{:?}", self.0);
        let mut before_was_small = false;
        for letter in name.chars() {
            if letter.is_ascii_uppercase() && before_was_small {
                f.write_str("_")?;
            }
            before_was_small = letter.is_ascii_lowercase();
            write!(f, "{}", letter.to_ascii_lowercase())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_the_names_of_the_standard() {
        for (alert, name) in [
            (AlertDescription::UnknownCA, "unknown_ca"),
            (AlertDescription::HandshakeFailure, "handshake_failure"),
            (AlertDescription::CertificateRequired, "certificate_required"),
            (AlertDescription::NoApplicationProtocol, "no_application_protocol"),
            (AlertDescription::Unknown(200), "number 200"),
        ] {
            assert_eq!(AlertName(alert).to_string(), name);
        }
    }
}
