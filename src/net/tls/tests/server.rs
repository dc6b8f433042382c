//! Servers: one of rustls, and a hostile one with its keys.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::BytesMut;
use pgbell_testkit::Certificate;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CipherSuiteCommon, ContentType, RootCertStore, ServerConfig, ServerConnection,
    SupportedCipherSuite, SupportedProtocolVersion, Tls12CipherSuite, Tls13CipherSuite,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};

use super::super::{Secured, Tls, TlsStream};
use super::sealer::Sealer;
use super::zoo::{GOOD, ROOT};
use crate::config::Config;
use crate::error::Error;

/// The settings of a server.
pub(super) struct Setup {
    pub(super) chain: String,
    pub(super) key: String,
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
    pub(super) protocols: Vec<&'static str>,
    pub(super) suite: Option<rustls::CipherSuite>,
    /// It requests a client certificate; if true, it requires one.
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
        let mut provider = CryptoProvider::clone(&super::super::config::provider().unwrap());
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
        // The certificate is not checked: some tests use a bad one.
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
    /// The data that was received and not returned. rustls buffers only a part of it.
    data: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Server<S> {
    /// Sends the output of rustls.
    pub(super) async fn flush(&mut self) {
        let mut bytes = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut bytes).unwrap();
        }
        let _ = self.io.write_all(&bytes).await;
        let _ = self.io.flush().await;
    }

    /// Reads once. False at the end, or after an error of rustls.
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

    pub(super) async fn handshake(&mut self) -> bool {
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
        // rustls buffers at most 64 KiB.
        for part in data.chunks(32 * 1024) {
            self.connection.writer().write_all(part).unwrap();
            self.flush().await;
        }
    }

    pub(super) async fn close_notify(&mut self) {
        self.connection.send_close_notify();
        self.flush().await;
    }

    /// Reads until so much data has arrived, or the client has ended the connection.
    pub(super) async fn data(&mut self, count: usize) -> Vec<u8> {
        while self.data.len() < count && self.receive().await {
            self.flush().await;
        }
        std::mem::take(&mut self.data)
    }

    /// Takes the keys out of rustls, to encrypt records of any kind with them.
    pub(super) fn into_hostile(self) -> HostileServer<S> {
        let suite = self.connection.negotiated_cipher_suite().unwrap();
        let secrets = self.connection.dangerous_extract_secrets().unwrap();
        HostileServer { sealer: Sealer::new(suite, secrets.tx), io: self.io }
    }
}

/// A server that sends any record after its handshake.
pub(super) struct HostileServer<S> {
    pub(super) sealer: Sealer,
    pub(super) io: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> HostileServer<S> {
    pub(super) fn record(&mut self, content: ContentType, bytes: &[u8]) -> Vec<u8> {
        self.sealer.seal(content, bytes)
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

/// Returns a configuration for localhost, with more parameters.
pub(super) fn config(parameters: &str) -> Config {
    format!("host=localhost user=bob {parameters}").parse().unwrap()
}

/// Prepares TLS without the files of the user that runs the tests.
pub(super) fn tls(config: &Config) -> Result<Tls, Error> {
    Tls::with_directory(config, None)
}

/// Returns a configuration for localhost, with a client that may use a key for so many records only.
pub(super) fn config_with_key_limit(records: u64) -> Config {
    let mut provider = CryptoProvider::clone(&super::super::config::provider().unwrap());
    for suite in &mut provider.cipher_suites {
        *suite = match *suite {
            SupportedCipherSuite::Tls12(suite) => {
                let common = limited(&suite.common, records);
                let suite = Tls12CipherSuite { common, ..*suite };
                SupportedCipherSuite::Tls12(Box::leak(Box::new(suite)))
            }
            SupportedCipherSuite::Tls13(suite) => {
                let common = limited(&suite.common, records);
                let suite = Tls13CipherSuite { common, ..*suite };
                SupportedCipherSuite::Tls13(Box::leak(Box::new(suite)))
            }
        };
    }
    let client = super::settings::own_with(Arc::new(provider));
    config("sslmode=require").rustls_0_23(Arc::new(client))
}

fn limited(common: &CipherSuiteCommon, records: u64) -> CipherSuiteCommon {
    CipherSuiteCommon { confidentiality_limit: records, ..*common }
}

pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    config: &Config,
    io: S,
) -> Result<Secured<S>, Error> {
    let server = config.servers().unwrap().remove(0);
    tls(config)?.connect_over(io, &server, IpAddr::V4(Ipv4Addr::LOCALHOST)).await
}

/// Returns both ends of a connection after the handshake. At most `width` bytes are in transit.
pub(super) async fn pair(
    setup: &Setup,
    parameters: &str,
    width: usize,
) -> (TlsStream<DuplexStream>, Server<DuplexStream>) {
    pair_with(setup, &config(parameters), width).await
}

/// Does the same with any configuration of the client.
pub(super) async fn pair_with(
    setup: &Setup,
    config: &Config,
    width: usize,
) -> (TlsStream<DuplexStream>, Server<DuplexStream>) {
    let (ours, theirs) = duplex(width);
    let mut server = setup.over(theirs);
    let (secured, shaken) = tokio::join!(connect(config, ours), server.handshake());
    assert!(shaken, "{:?}", server.failed);
    (secured.unwrap().stream, server)
}

/// Does a handshake, and returns the result and the server.
pub(super) async fn attempt(
    setup: &Setup,
    parameters: &str,
) -> (Result<Secured<DuplexStream>, Error>, Server<DuplexStream>) {
    let (ours, theirs) = duplex(64 * 1024);
    let mut server = setup.over(theirs);
    let config = config(parameters);
    let (result, _) = tokio::join!(connect(&config, ours), server.handshake());
    (result, server)
}

/// Returns the error of a handshake that must fail.
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

/// Reads until so much data has arrived.
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

/// Returns bytes that all differ from their neighbours.
pub(super) fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| u8::try_from(at % 251).unwrap()).collect()
}
