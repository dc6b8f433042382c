//! Servers: one of rustls, and its keys in the hands of one that lies.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::BytesMut;
use pgbell_testkit::Certificate;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ContentType, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};

use super::super::keys::Sealer;
use super::super::{Secured, Tls, TlsStream};
use super::zoo::{GOOD, ROOT};
use crate::{Config, Error};

/// How a server is set up.
pub(super) struct Setup {
    pub(super) chain: String,
    pub(super) key: String,
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
    pub(super) protocols: Vec<&'static str>,
    pub(super) suite: Option<rustls::CipherSuite>,
    /// Asks clients for a certificate, and insists on one.
    pub(super) asks: Option<bool>,
    pub(super) tickets: usize,
}

impl Setup {
    pub(super) fn new(certificate: &Certificate) -> Self {
        Self::pem(certificate.chain_pem(), certificate.key_pem())
    }

    pub(super) fn pem(chain: &str, key: &str) -> Self {
        Self {
            chain: chain.to_owned(),
            key: key.to_owned(),
            versions: vec![&rustls::version::TLS13, &rustls::version::TLS12],
            protocols: vec!["postgresql"],
            suite: None,
            asks: None,
            tickets: 0,
        }
    }

    pub(super) fn good() -> Self {
        Self::new(&GOOD)
    }

    pub(super) fn tls12(mut self) -> Self {
        self.versions = vec![&rustls::version::TLS12];
        self
    }

    pub(super) fn version(self, tls13: bool) -> Self {
        if tls13 { self } else { self.tls12() }
    }

    pub(super) fn connection(&self) -> ServerConnection {
        let mut provider =
            rustls::crypto::CryptoProvider::clone(&super::super::provider::provider().unwrap());
        if let Some(suite) = self.suite {
            provider.cipher_suites.retain(|known| known.suite() == suite);
        }
        let provider = Arc::new(provider);
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&self.versions)
            .unwrap();
        let builder = match self.asks {
            None => builder.with_no_client_auth(),
            Some(insists) => {
                let mut roots = RootCertStore::empty();
                let root = ROOT.certificate().pem().as_bytes();
                roots.add(CertificateDer::from_pem_slice(root).unwrap()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = if insists { verifier } else { verifier.allow_unauthenticated() };
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        // Without the check that the certificate is one: some are meant to be bad.
        let key = builder_key(&builder, chain, key);
        let mut config = builder.with_cert_resolver(Arc::new(key));
        config.alpn_protocols =
            self.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config.send_tls13_tickets = self.tickets;
        config.enable_secret_extraction = true;
        ServerConnection::new(Arc::new(config)).unwrap()
    }

    pub(super) fn over<S>(&self, io: S) -> Server<S> {
        Server { connection: self.connection(), io, failed: None, data: Vec::new() }
    }
}

fn builder_key(
    builder: &rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> rustls::sign::SingleCertAndKey {
    let key = builder.crypto_provider().key_provider.load_private_key(key).unwrap();
    rustls::sign::CertifiedKey::new(chain, key).into()
}

/// A server of rustls on some connection.
pub(super) struct Server<S> {
    pub(super) connection: ServerConnection,
    pub(super) io: S,
    pub(super) failed: Option<rustls::Error>,
    /// What was received, and has not been asked for. rustls keeps little of it.
    data: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Server<S> {
    /// Sends what rustls has to send.
    pub(super) async fn flush(&mut self) {
        let mut bytes = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut bytes).unwrap();
        }
        let _ = self.io.write_all(&bytes).await;
        let _ = self.io.flush().await;
    }

    /// Reads once. False at the end, or when rustls has had enough.
    pub(super) async fn receive(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let count = self.io.read(&mut bytes).await.unwrap_or(0);
        let mut rest = &bytes[..count];
        while !rest.is_empty() {
            self.connection.read_tls(&mut rest).unwrap();
            if let Err(error) = self.connection.process_new_packets() {
                self.failed = Some(error);
                self.flush().await;
                return false;
            }
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = self.connection.reader().read(&mut part) {
                self.data.extend_from_slice(&part[..count]);
            }
        }
        count > 0
    }

    pub(super) async fn shake(&mut self) -> bool {
        while self.connection.is_handshaking() {
            self.flush().await;
            if self.connection.is_handshaking() && !self.receive().await {
                return false;
            }
        }
        self.flush().await;
        true
    }

    pub(super) async fn send(&mut self, data: &[u8]) {
        // rustls keeps at most 64 KiB.
        for part in data.chunks(32 * 1024) {
            self.connection.writer().write_all(part).unwrap();
            self.flush().await;
        }
    }

    pub(super) async fn goodbye(&mut self) {
        self.connection.send_close_notify();
        self.flush().await;
    }

    /// Reads until so much data is there, or the client has ended.
    pub(super) async fn data(&mut self, count: usize) -> Vec<u8> {
        while self.data.len() < count && self.receive().await {
            self.flush().await;
        }
        std::mem::take(&mut self.data)
    }

    /// Gives its keys out of the hands of rustls: records of any kind can be made with them.
    pub(super) fn into_liar(self) -> Liar<S> {
        let suite = self.connection.negotiated_cipher_suite().unwrap();
        let secrets = self.connection.dangerous_extract_secrets().unwrap();
        Liar { sealer: Sealer::new(suite, secrets.tx).unwrap(), io: self.io }
    }
}

/// A server that has shaken hands, and then says what it likes.
pub(super) struct Liar<S> {
    pub(super) sealer: Sealer,
    pub(super) io: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Liar<S> {
    pub(super) fn record(&mut self, content: ContentType, bytes: &[u8]) -> Vec<u8> {
        self.sealer.seal(content, bytes).unwrap()
    }

    pub(super) async fn send(&mut self, content: ContentType, bytes: &[u8]) {
        let record = self.record(content, bytes);
        self.raw(&record).await;
    }

    pub(super) async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.io.write_all(bytes).await;
        let _ = self.io.flush().await;
    }
}

/// A configuration for localhost, with more parameters.
pub(super) fn config(parameters: &str) -> Config {
    format!("host=localhost user=bob {parameters}").parse().unwrap()
}

/// Prepares TLS without any file of the one who runs the tests.
pub(super) fn tls(config: &Config) -> Result<Tls, Error> {
    Tls::with_directory(config, None)
}

pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    config: &Config,
    io: S,
) -> Result<Secured<S>, Error> {
    let server = config.servers().unwrap().remove(0);
    tls(config)?.connect_over(io, &server, IpAddr::V4(Ipv4Addr::LOCALHOST)).await
}

/// Both ends of a connection over which hands were shaken. At most so many bytes are under way at once.
pub(super) async fn pair(
    setup: &Setup,
    parameters: &str,
    width: usize,
) -> (TlsStream<DuplexStream>, Server<DuplexStream>) {
    let (ours, theirs) = duplex(width);
    let mut server = setup.over(theirs);
    let config = config(parameters);
    let (secured, shaken) = tokio::join!(connect(&config, ours), server.shake());
    assert!(shaken, "{:?}", server.failed);
    (secured.unwrap().stream, server)
}

/// What comes of a handshake with a server that goes on until it ends.
pub(super) async fn attempt(
    setup: &Setup,
    parameters: &str,
) -> (Result<Secured<DuplexStream>, Error>, Server<DuplexStream>) {
    let (ours, theirs) = duplex(64 * 1024);
    let mut server = setup.over(theirs);
    let config = config(parameters);
    let (result, _) = tokio::join!(connect(&config, ours), server.shake());
    (result, server)
}

/// The words of the refusal.
pub(super) async fn refusal(setup: &Setup, parameters: &str) -> Error {
    match attempt(setup, parameters).await.0 {
        Err(error) => error,
        Ok(secured) => panic!("{parameters}: {secured:?}"),
    }
}

/// Reads once.
pub(super) async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut TlsStream<S>,
    out: &mut BytesMut,
) -> std::io::Result<usize> {
    std::future::poll_fn(|cx| stream.poll_read(cx, out)).await
}

/// Reads until so much is there.
pub(super) async fn read_data<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut TlsStream<S>,
    count: usize,
) -> Vec<u8> {
    let mut data = Vec::new();
    let mut out = BytesMut::with_capacity(64 * 1024);
    while data.len() < count {
        out.clear();
        match read(stream, &mut out).await.unwrap() {
            0 => break,
            read => data.extend_from_slice(&out[..read]),
        }
    }
    data
}

pub(super) async fn write_all<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut TlsStream<S>,
    mut data: &[u8],
) -> std::io::Result<()> {
    while !data.is_empty() {
        let count = std::future::poll_fn(|cx| stream.poll_write(cx, data)).await?;
        data = &data[count..];
    }
    std::future::poll_fn(|cx| stream.poll_flush(cx)).await
}

pub(super) async fn shutdown<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut TlsStream<S>) {
    std::future::poll_fn(|cx| stream.poll_shutdown(cx)).await.unwrap();
}

/// Bytes that are all different from their neighbours.
pub(super) fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| u8::try_from(at % 251).unwrap()).collect()
}
