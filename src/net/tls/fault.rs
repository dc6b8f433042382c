//! What can go wrong on an encrypted connection, after the handshake and below it.

use std::fmt;

use rustls::AlertDescription;

/// Why the stream of records cannot go on.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    /// What stands where a record should begin is something else.
    NotTls,
    /// A record is longer than any may be.
    TooLong,
    /// A record was forged, changed on its way, or came out of order.
    Forged,
    /// A record, or what is in it, that may not come at this moment.
    Unexpected(&'static str),
    /// The server ended the connection with this reason.
    Alert(AlertDescription),
    /// As many records were written under these keys as is safe, and TLS 1.2 has no new ones.
    KeysWorn,
    /// The cryptography failed on our side.
    Crypto(rustls::Error),
}

impl Fault {
    /// What to tell the server, if anything.
    pub(super) fn alert(&self) -> Option<AlertDescription> {
        match self {
            Self::NotTls => Some(AlertDescription::DecodeError),
            Self::TooLong => Some(AlertDescription::RecordOverflow),
            Self::Forged => Some(AlertDescription::BadRecordMac),
            Self::Unexpected(_) => Some(AlertDescription::UnexpectedMessage),
            Self::Crypto(_) => Some(AlertDescription::InternalError),
            Self::KeysWorn => Some(AlertDescription::CloseNotify),
            // It is over already.
            Self::Alert(_) => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTls => f.write_str("the server sent bytes that are not TLS"),
            Self::TooLong => f.write_str("the server sent a TLS record longer than any may be"),
            Self::Forged => f.write_str(
                "a TLS record does not decrypt: it was changed on its way, or is not the server's",
            ),
            Self::Unexpected(what) => write!(f, "the server sent {what}, which may not come here"),
            Self::Alert(alert) => {
                write!(f, "the server ended TLS with the alert {}", AlertName(*alert))
            }
            Self::KeysWorn => f.write_str(
                "as many TLS records were sent as one key may protect, and TLS 1.2 has no second one",
            ),
            Self::Crypto(error) => write!(f, "TLS cannot go on: {error}"),
        }
    }
}

/// An alert as the standard and OpenSSL spell it: `unknown_ca`.
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
