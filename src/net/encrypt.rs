//! From a socket to what the session talks through: the socket itself, or TLS on it.

use super::dial::Address;
use super::stream::Stream;
use crate::auth::Channel;
use crate::config::{Server, SslMode};
use crate::route::Encryption;
use crate::{Config, Error, ErrorKind};

/// Wraps sockets as the configuration wants it. Made anew for every attempt: files may have changed.
pub(super) struct Encryptor {
    mode: SslMode,
}

impl Encryptor {
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        let mode = config.effective_ssl_mode();
        if matches!(mode, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("sslmode={mode} asks for TLS, which this version does not have"),
            ));
        }
        Ok(Self { mode: SslMode::Disable })
    }

    /// What is tried with this address, in this order.
    pub(super) fn methods(&self, address: &Address) -> &'static [Encryption] {
        Encryption::methods(self.mode, false, address.is_unix())
    }

    pub(super) async fn wrap(
        &self,
        stream: Stream,
        method: Encryption,
        server: &Server,
    ) -> Result<(Stream, Channel), Error> {
        let _ = (method, server);
        let channel = if stream.is_unix() { Channel::Local } else { Channel::Clear };
        Ok((stream, channel))
    }
}
