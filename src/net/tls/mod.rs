//! TLS, by rustls. Nothing outside of this directory names its types.
//!
//! ```text
//! Tls::load ── files, once per attempt ──► Tls ── connect, per connection ──► Secured
//!   roots, client_certificate                verifier, handshake                stream
//! ```
//!
//! What is checked follows from `sslmode` and from whether there is a file of authorities, as in libpq. Where
//! this differs from libpq:
//!
//! - The common name of a certificate is not a host name; libpq looks at it when there is no subjectAltName.
//! - A server that shows one of the certificates in `sslrootcert` is accepted by that, also when OpenSSL would
//!   not find a chain from it to a root.
//! - An authority in `sslrootcert` counts also when it is not a root, and its root is not there.
//! - A certificate of version 1, or without `basicConstraints`, is none of an authority.
//! - Netscape's types of certificates are not looked at.
//! - `sslcrl` and `sslcrldir` must lead to well-formed lists, and need a file of authorities.
//! - Encrypted keys and keys in an engine are refused.

mod ask;
mod authorities;
mod buffer;
mod certificate;
mod client_certificate;
mod config;
mod extension;
mod fault;
mod file;
mod handshake;
mod hint;
mod incoming;
mod key;
mod keys;
mod lists;
mod outgoing;
mod provider;
mod record;
mod refusal;
mod rights;
mod roots;
mod stream;
mod told;
mod verifier;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

pub(crate) use ask::{Answer, ask};
pub(crate) use config::Tls;
pub(crate) use stream::TlsStream;

use crate::config::{Host, Server, SslCertMode, SslNegotiation};
use crate::{Error, ErrorKind, auth};
use handshake::{Done, shake};
use incoming::Incoming;
use keys::{Opener, Sealer};
use outgoing::Outgoing;
use record::{HEADER_BYTES, PLAINTEXT_BYTES_MAX};
use told::Told;

/// PostgreSQL's protocol, by the name under which IANA lists it.
const ALPN: &[u8] = b"postgresql";

/// Where a server is when no host is given, and it is not on a Unix socket.
const DEFAULT_HOST: &str = "localhost";

/// A connection over TLS, and what it says of the server.
#[derive(Debug)]
pub(crate) struct Secured<S = TcpStream> {
    pub(crate) stream: TlsStream<S>,
    /// For SCRAM: `tls-server-end-point` of the server's certificate, where it has one.
    pub(crate) end_point: Option<Vec<u8>>,
    /// Whether the server asked for a certificate of ours.
    #[cfg_attr(not(test), expect(dead_code, reason = "`sslcertmode` is enforced before"))]
    pub(crate) certificate_requested: bool,
    /// Whether it was shown one. In TLS 1.3 the first read tells if it refuses it.
    #[cfg_attr(not(test), expect(dead_code, reason = "`sslcertmode` is enforced before"))]
    pub(crate) certificate_sent: bool,
}

impl Tls {
    /// Shakes hands over a connection on which the server has agreed to TLS, or, with
    /// `sslnegotiation=direct`, over one on which nothing was said.
    ///
    /// # Errors
    /// [`ErrorKind::Tls`]: no agreement, or the server is not who it should be. [`ErrorKind::Connect`]: the
    /// connection broke. Nothing that belongs to the login was sent.
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection. It has no deadline of its own.
    pub(crate) async fn connect(&self, tcp: TcpStream, server: &Server) -> Result<Secured, Error> {
        let peer = tcp.peer_addr().map_err(|error| {
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
        let told = Arc::new(Told::new(self.certificate_file()));
        let client = self.client_config(host.as_ref(), server, &told)?;
        let fragment = match client.max_fragment_size {
            // rustls counts the header.
            Some(record) => record.saturating_sub(HEADER_BYTES).min(PLAINTEXT_BYTES_MAX),
            None => PLAINTEXT_BYTES_MAX,
        };
        // Without a name that can be one, none is sent.
        let name = host.unwrap_or(ServerName::IpAddress(peer.into()));
        let shaken = async {
            let protocols = vec![ALPN.to_vec()];
            let connection = UnbufferedClientConnection::new_with_alpn(client, name, protocols)?;
            shake(&mut io, connection).await
        };
        // On the heap: its state is large, and those who wait for it hold it.
        let done = Box::pin(shaken).await.map_err(|failure| hint::failed(failure, &told))?;
        self.check(&done, &told)?;
        let end_point = done.certificate.as_deref().and_then(auth::tls_server_end_point);
        let suite = done.schedule.negotiated_cipher_suite();
        let unusable = |error| Error::caused(ErrorKind::Tls, "the cipher cannot be used", error);
        let opener = Opener::new(suite, done.secrets.rx).map_err(unusable)?;
        let sealer = Sealer::new(suite, done.secrets.tx).map_err(unusable)?;
        let incoming = Incoming::new(opener, done.buffer);
        let outgoing = Outgoing::new(sealer, fragment);
        let (certificate_requested, certificate_sent) =
            (told.certificate_requested(), told.certificate_sent());
        let stream = TlsStream::new(io, done.schedule, incoming, outgoing, told);
        Ok(Secured { stream, end_point, certificate_requested, certificate_sent })
    }

    /// What the server must have agreed to beside rustls' own terms.
    fn check(&self, done: &Done, told: &Told) -> Result<(), Error> {
        // Another protocol than the one we offered is an error for rustls already.
        if self.negotiation == SslNegotiation::Direct && !done.protocol_selected {
            let message =
                "sslnegotiation=direct, and the server did not choose PostgreSQL's protocol (ALPN)";
            return Err(Error::new(ErrorKind::Tls, message).with_hint(
                "direct TLS needs PostgreSQL 17 or later: use sslnegotiation=postgres for older ones",
            ));
        }
        if self.certificate_mode == SslCertMode::Require && !told.certificate_sent() {
            let message = if told.certificate_requested() {
                "sslcertmode=require, and there is no certificate that the server would look at"
            } else {
                "sslcertmode=require, and the server did not ask for a certificate"
            };
            return Err(Error::new(ErrorKind::Tls, message).with_hint(
                "the server asks when ssl_ca_file is set; ours is named by sslcert and sslkey",
            ));
        }
        Ok(())
    }
}

/// What the server is called, if that can be a name. The host counts, not the address that it is reached by.
fn host_name(server: &Server) -> Option<ServerName<'static>> {
    let name = match (server.host(), server.address()) {
        (Some(Host::Tcp(name)), _) => name.as_str(),
        (Some(Host::Unix(_)), _) | (None, Some(_)) => return None,
        (None, None) => DEFAULT_HOST,
    };
    ServerName::try_from(name).ok().map(|name| name.to_owned())
}

/// The error of this crate in an error of [`TlsStream`], with its kind and its hint.
pub(crate) fn cause(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

#[cfg(all(test, unix, any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
mod tests;
