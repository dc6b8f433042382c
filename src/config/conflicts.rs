//! Checks for parameters that contradict each other.

use super::error::{ConfigError, Location, ParameterFault};
use super::keys::ParameterKey;
use super::values::{SslMode, SslNegotiation};
use super::{Config, security::SYSTEM_ROOTS};
use crate::proto::auth::ChannelBinding;

impl Config {
    /// Returns an error if libpq refuses the combination too, or if every attempt with it would fail.
    ///
    /// If the configuration is not `complete`, other sources may still set the parameters that are missing.
    pub(super) fn conflict(&self, complete: bool) -> Result<(), ConfigError> {
        // The cause is two parameters, which may come from two sources, so the error has no location.
        let fault = |fault, key: ParameterKey| {
            Err(ConfigError::new(fault, Some(key.name()), Location::Call))
        };
        let mode = match self.get_ssl_mode() {
            None if complete => Some(SslMode::default()),
            mode => mode,
        };
        match mode {
            Some(SslMode::Disable) if self.get_channel_binding() == ChannelBinding::Require => {
                return fault(ParameterFault::BindingWithoutTls, ParameterKey::ChannelBinding);
            }
            // These modes could fall back to an unencrypted connection if the server does not support direct TLS.
            Some(SslMode::Disable | SslMode::Allow | SslMode::Prefer)
                if self.get_ssl_negotiation() == SslNegotiation::Direct =>
            {
                return fault(ParameterFault::WeakForDirect, ParameterKey::Sslmode);
            }
            // Without a check of the name, a certificate of any public authority would be accepted.
            Some(mode)
                if mode != SslMode::VerifyFull
                    && self.get_ssl_root_cert() == Some(SYSTEM_ROOTS) =>
            {
                return fault(ParameterFault::WeakForSystem, ParameterKey::Sslmode);
            }
            _ => {}
        }
        if let (Some(min), Some(max)) =
            (self.get_ssl_min_protocol_version(), self.get_ssl_max_protocol_version())
            && min > max
        {
            let above = ParameterFault::Above { other: ParameterKey::SslMaxProtocolVersion.name() };
            return fault(above, ParameterKey::SslMinProtocolVersion);
        }
        if let (Some(min), Some(max)) =
            (self.get_scram_iterations_min(), self.get_scram_iterations_max())
            && min > max
        {
            let above = ParameterFault::Above { other: ParameterKey::ScramIterationsMax.name() };
            return fault(above, ParameterKey::ScramIterationsMin);
        }
        if let (Some(min), Some(max)) =
            (self.get_min_protocol_version(), self.get_max_protocol_version())
            && min > max
        {
            let above = ParameterFault::Above { other: ParameterKey::MaxProtocolVersion.name() };
            return fault(above, ParameterKey::MinProtocolVersion);
        }
        Ok(())
    }

    /// Like [`check`](Self::check), for a configuration that is complete: a parameter that is missing has its default, and
    /// the lists of hosts, addresses and ports must match.
    ///
    /// # Errors
    /// The first value that is not valid, or the first contradiction.
    pub fn check_complete(&self) -> Result<(), ConfigError> {
        self.check()?;
        self.conflict(true)?;
        self.pair().map(drop)
    }
}
