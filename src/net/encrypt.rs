//! From a socket to what the session talks through: the socket itself, or TLS on it.

use std::path::Path;

use super::dial::{Address, Dialled};
use super::stream::Stream;
#[cfg(feature = "tls")]
use super::tls::{Answer, Secured, Tls, ask};
use crate::auth::Channel;
use crate::config::{Server, SslMode, SslNegotiation};
use crate::route::Encryption;
use crate::{Config, Error, ErrorKind};

/// What a session talks through.
pub(super) struct Wrapped {
    pub(super) stream: Stream,
    pub(super) channel: Channel,
    /// The certificate of the server was verified.
    pub(super) is_verified: bool,
}

/// Wraps sockets as the configuration wants it. Made anew for every attempt: files may have changed.
pub(super) struct Encryptor {
    mode: SslMode,
    direct: bool,
    /// Where TLS may be needed.
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

impl Encryptor {
    #[cfg(feature = "tls")]
    pub(super) async fn new(config: &Config) -> Result<Self, Error> {
        let mode = config.effective_ssl_mode();
        let direct = config.get_ssl_negotiation() == SslNegotiation::Direct;
        let tls = match mode {
            SslMode::Disable => None,
            _ => Some(Tls::load(config).await?),
        };
        Ok(Self { mode, direct, tls })
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_async, reason = "with TLS, files are read")]
    pub(super) async fn new(config: &Config) -> Result<Self, Error> {
        let direct = config.get_ssl_negotiation() == SslNegotiation::Direct;
        match config.effective_ssl_mode() {
            mode @ (SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => Err(Error::new(
                ErrorKind::Unsupported,
                format!("sslmode={mode} asks for TLS, which is not compiled in"),
            )
            .with_hint("build pgbell with the feature `tls-ring` or `tls-aws-lc-rs`")),
            // What is preferred and not there is done without.
            _ => Ok(Self { mode: SslMode::Disable, direct }),
        }
    }

    /// The file of the client's certificate that the configuration names, if it does not exist: as in libpq, there is
    /// no certificate then, and the server decides whether it wants one.
    pub(super) fn missing_certificate(&self) -> Option<&Path> {
        #[cfg(feature = "tls")]
        return self.tls.as_ref().and_then(Tls::missing_certificate);
        #[cfg(not(feature = "tls"))]
        None
    }

    /// What is tried with this address, in this order.
    pub(super) fn methods(&self, address: &Address) -> &'static [Encryption] {
        Encryption::methods(self.mode, self.direct, address.is_unix())
    }

    /// Wraps a socket that was just opened. Nothing was said on it.
    #[cfg(feature = "tls")]
    pub(super) async fn wrap(
        &self,
        dialled: Dialled,
        method: Encryption,
        server: &Server,
    ) -> Result<Wrapped, Error> {
        let Dialled { stream, channel } = dialled;
        let tls = self.tls.as_ref().filter(|_| method.may_be_tls());
        let (mut tcp, tls) = match (stream, tls) {
            (Stream::Tcp(tcp), Some(tls)) => (tcp, tls),
            (stream, _) => return Ok(plain(stream, channel)),
        };
        if method != Encryption::DirectTls && ask(&mut tcp).await? == Answer::No {
            return match method {
                Encryption::TlsIfOffered => Ok(plain(Stream::Tcp(tcp), channel)),
                _ => Err(without_tls(self.mode)),
            };
        }
        let Secured { stream, end_point, .. } = tls.connect(tcp, server).await?;
        Ok(Wrapped {
            stream: Stream::Tls(Box::new(stream)),
            channel: Channel::Tls { end_point },
            is_verified: tls.verifies(),
        })
    }

    /// Without TLS there is nothing to wrap in.
    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_async, reason = "with TLS, hands are shaken")]
    pub(super) async fn wrap(
        &self,
        dialled: Dialled,
        _: Encryption,
        _: &Server,
    ) -> Result<Wrapped, Error> {
        Ok(plain(dialled.stream, dialled.channel))
    }
}

fn plain(stream: Stream, channel: Channel) -> Wrapped {
    Wrapped { stream, channel, is_verified: false }
}

#[cfg(feature = "tls")]
#[cold]
fn without_tls(mode: SslMode) -> Error {
    Error::new(ErrorKind::Tls, format!("sslmode={mode} asks for TLS, and the server has none"))
        .with_hint(
            "set `ssl = on` and a certificate in postgresql.conf, or ask for less: sslmode=prefer",
        )
}
