//! TLS, with rustls. Other modules do not use its types.
//!
//! ```text
//! Tls::load ── files, once per attempt ──► Tls ── connect, per connection ──► Secured
//!   roots, client_certificate                verifier, handshake                stream
//! ```
//!
//! `sslmode`, and whether there is a file of authorities, decide what is verified, as in libpq. The differences from
//! libpq are:
//!
//! - The common name of a certificate is not used as a host name; libpq uses it if there is no subjectAltName.
//! - A server that sends one of the certificates in `sslrootcert` is accepted, also if OpenSSL would
//!   not find a chain from it to a root.
//! - An authority in `sslrootcert` is trusted also if it is not a root, and its root is not in the file.
//! - A certificate of version 1, or without `basicConstraints`, is not accepted as that of an authority.
//! - Netscape's certificate types are ignored.
//! - `sslcrl` and `sslcrldir` must name well-formed lists, and need a file of authorities.
//! - Encrypted keys and keys in an engine are refused.

mod ask;
mod authorities;
mod certificate;
mod client_certificate;
mod config;
mod extension;
mod fault;
mod file;
mod handshake;
mod handshake_info;
mod hint;
mod key;
mod key_limit;
mod lists;
mod received;
mod refusal;
mod rights;
mod roots;
mod sending;
mod stream;
mod verifier;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use ask::{Answer, ask};
pub(crate) use config::Tls;
pub(crate) use stream::TlsStream;

use crate::config::{Host, Server, SslCertMode, SslNegotiation};
use crate::error::{Error, ErrorKind};
use crate::proto::auth;
use handshake::perform;
use handshake_info::HandshakeInfo;
use key_limit::KeyLimit;

use super::tcp::TcpSocket;

/// The name of PostgreSQL's protocol in IANA's list.
const ALPN: &[u8] = b"postgresql";

/// The host if none is given, and there are no Unix sockets.
const DEFAULT_HOST: &str = "localhost";

/// A TLS connection, and the facts about its handshake.
#[derive(Debug)]
pub(crate) struct Secured<S = TcpSocket> {
    pub(crate) stream: TlsStream<S>,
    /// The value that SCRAM binds to: `tls-server-end-point` of the server's certificate, if it has one.
    pub(crate) end_point: Option<Vec<u8>>,
    /// The server requested a client certificate.
    #[cfg_attr(not(test), expect(dead_code, reason = "`sslcertmode` is enforced before"))]
    pub(crate) certificate_requested: bool,
    /// One was sent. In TLS 1.3 the first read returns the error if the server refuses it.
    #[cfg_attr(not(test), expect(dead_code, reason = "`sslcertmode` is enforced before"))]
    pub(crate) certificate_sent: bool,
}

impl Tls {
    /// Does the handshake over a connection on which the server has accepted SSLRequest, or, with
    /// `sslnegotiation=direct`, over one on which nothing was sent.
    ///
    /// # Errors
    /// [`ErrorKind::Tls`]: the handshake failed, or the server was not verified. [`ErrorKind::Connect`]: the
    /// connection broke. Nothing of the login was sent.
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection. It has no deadline of its own.
    pub(crate) async fn connect(
        &self,
        mut tcp: TcpSocket,
        server: &Server,
    ) -> Result<Secured, Error> {
        let peer = tcp.stream().and_then(|stream| stream.peer_addr()).map_err(|error| {
            hint::broken_io("the connection broke before the TLS handshake", error)
        })?;
        self.connect_over(tcp, server, peer.ip()).await
    }

    async fn connect_over<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut io: S,
        server: &Server,
        peer: IpAddr,
    ) -> Result<Secured<S>, Error> {
        let host = host_name(server);
        let info = Arc::new(HandshakeInfo::new(self.certificate_file()));
        let client = self.client_config(host.as_ref(), server, &info)?;
        let max_fragment_size = client.max_fragment_size;
        // If the host is not a valid name, no name is sent.
        let name = host.unwrap_or(ServerName::IpAddress(peer.into()));
        let handshake = async {
            let protocols = vec![ALPN.to_vec()];
            let mut connection = ClientConnection::new_with_alpn(client, name, protocols)?;
            let received = perform(&mut io, &mut connection).await?;
            Ok((connection, received))
        };
        // On the heap: its state is large, and part of the future of the caller.
        let done = Box::pin(handshake).await.map_err(|failure| hint::failed(failure, &info))?;
        let (connection, received) = done;
        self.check(&connection, &info)?;
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        let end_point = certificate.and_then(|own| auth::tls_server_end_point(own));
        let key_limit = KeyLimit::new(&connection, max_fragment_size);
        let (certificate_requested, certificate_sent) =
            (info.certificate_requested(), info.certificate_sent());
        let stream = TlsStream::new(io, connection, received, key_limit, info);
        Ok(Secured { stream, end_point, certificate_requested, certificate_sent })
    }

    /// Checks the results of the handshake that rustls does not check.
    fn check(&self, connection: &ClientConnection, info: &HandshakeInfo) -> Result<(), Error> {
        // rustls itself refuses a protocol that was not offered.
        if self.negotiation == SslNegotiation::Direct && connection.alpn_protocol() != Some(ALPN) {
            let message =
                "sslnegotiation=direct, and the server did not choose PostgreSQL's protocol (ALPN)";
            return Err(Error::new(ErrorKind::Tls, message).with_hint(
                "direct TLS needs PostgreSQL 17 or later: use sslnegotiation=postgres for older servers",
            ));
        }
        if self.certificate_mode == SslCertMode::Require && !info.certificate_sent() {
            let message = if info.certificate_requested() {
                "sslcertmode=require, and there is no certificate of a kind that the server accepts"
            } else {
                "sslcertmode=require, and the server did not ask for a certificate"
            };
            return Err(Error::new(ErrorKind::Tls, message).with_hint(
                "the server asks if its ssl_ca_file is set; sslcert and sslkey name the client's certificate",
            ));
        }
        Ok(())
    }
}

/// Returns the host of the server, if it is a valid name. The address in `hostaddr` is not used.
fn host_name(server: &Server) -> Option<ServerName<'static>> {
    let name = match (server.host(), server.address()) {
        (Some(Host::Tcp(name)), _) => name.as_str(),
        (Some(Host::Unix(_)), _) | (None, Some(_)) => return None,
        (None, None) => DEFAULT_HOST,
    };
    ServerName::try_from(name).ok().map(|name| name.to_owned())
}

/// Returns the error of this crate, with its kind and its hint, that an error of [`TlsStream`] contains.
pub(crate) fn cause(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

#[cfg(all(test, unix, any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
mod tests;
