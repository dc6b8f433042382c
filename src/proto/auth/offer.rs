//! The SASL mechanisms that a server offers, and the choice among them.

use super::error::{AuthError, Obstacle};
use super::policy::{AuthMethod, AuthPolicy, Channel, ChannelBinding};
use super::scram::{Binding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS};

/// The largest number of SASL mechanisms that a server may offer. PostgreSQL 18 offers at most two of SCRAM and one
/// of OAuth.
// N20.
pub const SASL_MECHANISMS_MAX: usize = 16;

/// The supported mechanisms that the server offers.
pub(super) struct Offer {
    scram: bool,
    scram_plus: bool,
    /// All names, separated by commas, for the error that none is supported.
    names: String,
}

impl Offer {
    /// Parses a list of names. Each ends with a NUL; an empty name ends the list, and nothing follows it.
    pub(super) fn parse(list: &[u8]) -> Result<Self, AuthError> {
        let malformed =
            |found| AuthError::Violation { expected: "a list of SASL mechanisms", found };
        let mut offer = Self { scram: false, scram_plus: false, names: String::new() };
        let body = match list {
            [] | [0] => return Err(malformed("none")),
            [body @ .., 0, 0] => body,
            _ => return Err(malformed("a list without an empty name at its end")),
        };
        for (count, name) in body.split(|&byte| byte == 0).enumerate() {
            if name.is_empty() {
                return Err(malformed("bytes after the end of the list"));
            }
            if count == SASL_MECHANISMS_MAX {
                return Err(malformed("more than 16 names"));
            }
            offer.scram |= name == SCRAM_SHA_256.as_bytes();
            offer.scram_plus |= name == SCRAM_SHA_256_PLUS.as_bytes();
            let comma = if count == 0 { "" } else { ", " };
            offer.names.extend([comma, &String::from_utf8_lossy(name)]);
        }
        Ok(offer)
    }

    /// Chooses SCRAM-SHA-256-PLUS if both sides support it, whatever the order of the list.
    // N28.
    pub(super) fn choose(self, policy: &AuthPolicy) -> Result<(AuthMethod, Binding), AuthError> {
        let hash = match &policy.channel {
            // A server offers it only under TLS: something between client and server has removed the TLS.
            Channel::Clear | Channel::Local | Channel::UntrustedLocal { .. } if self.scram_plus => {
                return Err(AuthError::Violation {
                    expected: "no channel binding without TLS",
                    found: "an offer of SCRAM-SHA-256-PLUS",
                });
            }
            Channel::Clear | Channel::Local | Channel::UntrustedLocal { .. } => None,
            Channel::Tls { end_point } => end_point.as_ref(),
        };
        let hash = hash.filter(|_| policy.seeks_binding());
        let require = policy.channel_binding == ChannelBinding::Require;
        match (hash, self.scram, self.scram_plus) {
            (Some(hash), _, true) => {
                Ok((AuthMethod::ScramSha256Plus, Binding::TlsServerEndPoint(hash.clone())))
            }
            (Some(_), true, _) if require => {
                Err(AuthError::NoChannelBinding { obstacle: Obstacle::NotOffered })
            }
            (_, false, _) => Err(AuthError::NoMechanism { offered: self.names }),
            // If the server did offer it, it refuses this flag: that reveals an attacker that removed the offer. Also
            // without a hash, because such an attacker may have chosen the certificate too.
            (_, true, false) if policy.seeks_binding() => {
                Ok((AuthMethod::ScramSha256, Binding::SupportedNotOffered))
            }
            // Otherwise an attacker between client and server could avoid the binding with a certificate of its choice.
            (None, true, true) if policy.seeks_binding() && !policy.server_verified => {
                Err(AuthError::CannotBind)
            }
            // Not `y`: under TLS the server would refuse that, because it made the offer. N28.
            (_, true, _) => Ok((AuthMethod::ScramSha256, Binding::None)),
        }
    }
}
