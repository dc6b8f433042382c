//! Parameters that contradict one another.

use super::error::{ConfigError, Fault, Place};
use super::keys::Key;
use super::values::{SslMode, SslNegotiation};
use super::{Config, security::SYSTEM_ROOTS};
use crate::proto::auth::ChannelBinding;

impl Config {
    /// Refuses what libpq refuses too, and what could only fail later.
    ///
    /// As long as it is not `complete`, other sources may still give what is missing.
    pub(super) fn conflict(&self, complete: bool) -> Result<(), ConfigError> {
        // Two parameters are at fault, which may come from two sources: no place is right.
        let fault = |fault, key: Key| Err(ConfigError::new(fault, Some(key.name()), Place::Call));
        let mode = match self.get_ssl_mode() {
            None if complete => Some(SslMode::default()),
            mode => mode,
        };
        match mode {
            Some(SslMode::Disable) if self.get_channel_binding() == ChannelBinding::Require => {
                return fault(Fault::BindingWithoutTls, Key::ChannelBinding);
            }
            // The rest could end in clear text where a server does not know direct TLS.
            Some(SslMode::Disable | SslMode::Allow | SslMode::Prefer)
                if self.get_ssl_negotiation() == SslNegotiation::Direct =>
            {
                return fault(Fault::WeakForDirect, Key::Sslmode);
            }
            // Anybody can get a certificate from some authority of the system's list.
            Some(mode)
                if mode != SslMode::VerifyFull
                    && self.get_ssl_root_cert() == Some(SYSTEM_ROOTS) =>
            {
                return fault(Fault::WeakForSystem, Key::Sslmode);
            }
            _ => {}
        }
        if let (Some(min), Some(max)) =
            (self.get_ssl_min_protocol_version(), self.get_ssl_max_protocol_version())
            && min > max
        {
            let above = Fault::Above { other: Key::SslMaxProtocolVersion.name() };
            return fault(above, Key::SslMinProtocolVersion);
        }
        if let (Some(min), Some(max)) =
            (self.get_scram_iterations_min(), self.get_scram_iterations_max())
            && min > max
        {
            let above = Fault::Above { other: Key::ScramIterationsMax.name() };
            return fault(above, Key::ScramIterationsMin);
        }
        if let (Some(min), Some(max)) =
            (self.get_min_protocol_version(), self.get_max_protocol_version())
            && min > max
        {
            let above = Fault::Above { other: Key::MaxProtocolVersion.name() };
            return fault(above, Key::MinProtocolVersion);
        }
        Ok(())
    }

    /// As [`check`](Self::check), for a configuration that no other source will add to: what is
    /// missing has its default, and the lists of hosts, addresses and ports must match.
    ///
    /// # Errors
    /// The first value that was refused, or the first contradiction.
    pub fn check_complete(&self) -> Result<(), ConfigError> {
        self.check()?;
        self.conflict(true)?;
        self.pair().map(drop)
    }
}
