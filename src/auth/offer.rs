//! The SASL mechanisms that a server offers, and which of them is taken.

use super::error::{AuthError, Obstacle};
use super::policy::{AuthMethod, AuthPolicy, Channel, ChannelBinding};
use super::scram::{Binding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS};

/// Most SASL mechanisms that a server may offer. PostgreSQL 18 offers at most two of SCRAM and one
/// of OAuth. Note N20.
pub const SASL_MECHANISMS_MAX: usize = 16;

/// The mechanisms that the server offers, as far as we speak them.
pub(super) struct Offer {
    scram: bool,
    scram_plus: bool,
    /// All names with commas between, for the error that none fits.
    names: String,
}

impl Offer {
    /// Names that each end with a NUL, then an empty one, and nothing after it.
    pub(super) fn parse(list: &[u8]) -> Result<Self, AuthError> {
        let malformed =
            |found| AuthError::Violation { expected: "a list of SASL mechanisms", found };
        let mut offer = Self { scram: false, scram_plus: false, names: String::new() };
        let body = match list {
            [] | [0] => return Err(malformed("none")),
            [body @ .., 0, 0] => body,
            _ => return Err(malformed("a list without its end")),
        };
        for (count, name) in body.split(|&byte| byte == 0).enumerate() {
            if name.is_empty() {
                return Err(malformed("bytes after the list's end"));
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

    /// SCRAM-SHA-256-PLUS wherever both sides can, whatever the order of the list. N28.
    pub(super) fn choose(self, policy: &AuthPolicy) -> Result<(AuthMethod, Binding), AuthError> {
        let hash = match &policy.channel {
            // A server offers it under TLS alone: somebody between us took the TLS off.
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
            // A server that did offer it refuses this flag: a stripped offer is found out. Also without a hash: who
            // strips the offer may have chosen the certificate too.
            (_, true, false) if policy.seeks_binding() => {
                Ok((AuthMethod::ScramSha256, Binding::SupportedNotOffered))
            }
            // With a certificate of its choice, a machine in between would avoid the binding.
            (None, true, true) if policy.seeks_binding() && !policy.server_verified => {
                Err(AuthError::CannotBind)
            }
            // Not `y`: under TLS the server would refuse it, having made the offer. N28.
            (_, true, _) => Ok((AuthMethod::ScramSha256, Binding::None)),
        }
    }
}
