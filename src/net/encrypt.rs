//! The encryption of a socket: none, or TLS.

use std::path::Path;

use super::dial::{Address, Dialled};
use super::stream::Stream;
#[cfg(feature = "tls")]
use super::tls::{Answer, Secured, Tls, ask};
use crate::config::Config;
use crate::config::{Server, SslMode, SslNegotiation};
use crate::error::{Error, ErrorKind};
use crate::proto::auth::Channel;
use crate::proto::route::Encryption;

/// The stream of a session, and what is known about it.
pub(super) struct Wrapped {
    pub(super) stream: Stream,
    pub(super) channel: Channel,
    /// The certificate of the server was verified.
    pub(super) is_verified: bool,
}

/// Encrypts sockets as the configuration requires. A new one is made for every attempt: files may have changed.
pub(super) struct Encryptor {
    mode: SslMode,
    direct: bool,
    /// `None` if TLS is disabled.
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

impl Encryptor {
    #[cfg(feature = "tls")]
    pub(super) async fn new(config: &Config) -> Result<Self, Error> {
        let mode = config.effective().ssl_mode();
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
        match config.effective().ssl_mode() {
            mode @ (SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => Err(Error::new(
                ErrorKind::Unsupported,
                format!("sslmode={mode} asks for TLS, which is not compiled in"),
            )
            .with_hint("build pgbell with the feature `tls-ring` or `tls-aws-lc-rs`")),
            // TLS that is only preferred is left out.
            _ => Ok(Self { mode: SslMode::Disable, direct }),
        }
    }

    /// Returns the file of the client's certificate that the configuration names, if it does not exist. As in libpq, the
    /// client has no certificate then, and the server decides whether it requires one.
    pub(super) fn missing_certificate(&self) -> Option<&Path> {
        #[cfg(feature = "tls")]
        return self.tls.as_ref().and_then(Tls::missing_certificate);
        #[cfg(not(feature = "tls"))]
        None
    }

    /// Returns the kinds of encryption to try with this address, in order.
    pub(super) fn methods(&self, address: &Address) -> &'static [Encryption] {
        Encryption::methods(self.mode, self.direct, address.is_unix())
    }

    /// Encrypts a socket on which nothing was sent yet.
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

    /// Returns the socket as it is: this build has no TLS.
    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_async, reason = "with TLS, there is a handshake")]
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
            "set `ssl = on` and a certificate in postgresql.conf, or require no TLS: sslmode=prefer",
        )
}
