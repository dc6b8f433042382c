//! A server behind TLS, on a thread of its own, that records each client: its bytes before TLS, in TLS, and in the login. A
//! test decides for each client what the server does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use pgbell::proto::auth::tls_server_end_point;
use pgbell::testing::Script;
use pgbell_testkit::{Authority, Certificate};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use sha2::Sha256;

use super::super::attack::hex;
use super::super::client::PASSWORD;
use super::super::scram::{SASL_PLUS, request};
use super::peer::{Peer, note};

/// What the server does with one client.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// The client logs in, listens, receives one notification, and loses its session: with or without close_notify.
    Lose { close_notify: bool },
    /// The client logs in and is served.
    Serve,
    /// The server answers the request for TLS with this.
    Answer(&'static [u8]),
    /// The server has this certificate.
    Show(Arc<Certificate>),
    /// Over TLS, the server sends this instead of a request for a login with channel binding.
    Send(Vec<u8>),
}

/// The record of one client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Visitor {
    /// The bytes before TLS.
    pub(super) before: Vec<u8>,
    pub(super) server_name: Option<String>,
    pub(super) protocol: Option<Vec<u8>>,
    /// The client's certificates.
    pub(super) certificates: Vec<Vec<u8>>,
    pub(super) startup: Vec<u8>,
    pub(super) mechanism: String,
    /// True if the login was bound to the certificate of the server.
    pub(super) is_bound: bool,
    /// The bytes behind an answer that the client must refuse.
    pub(super) afterwards: Vec<u8>,
}

pub(super) struct TlsServer {
    pub(super) address: SocketAddr,
    visitors: Arc<Mutex<Vec<Visitor>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TlsServer {
    /// Starts the server. The last act is repeated for all later clients.
    pub(super) fn start(
        certificate: &Certificate,
        clients: &Authority,
        direct: bool,
        acts: Vec<Act>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (visitors, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (seen, is_over) = (visitors.clone(), over.clone());
        let roots = clients.certificate().pem().to_owned();
        let good = certificate.clone();
        let thread = std::thread::spawn(move || {
            let mut acts = acts.into_iter().peekable();
            loop {
                let (stream, _) = listener.accept().unwrap();
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let act = if acts.len() > 1 { acts.next() } else { acts.peek().cloned() };
                let act = act.unwrap();
                let certificate = match &act {
                    Act::Show(other) => (**other).clone(),
                    _ => good.clone(),
                };
                let mut visit = Visit { visitor: Visitor::default(), direct };
                // A client that disconnects in the middle is a broken pipe here.
                let config = config(&certificate, &roots);
                let _ = visit.receive(stream, config, &certificate, act);
                seen.lock().unwrap().push(visit.visitor);
            }
        });
        Self { address, visitors, over, thread: Some(thread) }
    }

    /// The clients that have disconnected.
    pub(super) fn visitors(&self) -> Vec<Visitor> {
        self.visitors.lock().unwrap().clone()
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        let ended = self.thread.take().unwrap().join();
        assert!(std::thread::panicking() || ended.is_ok(), "the server failed");
    }
}

fn config(certificate: &Certificate, clients: &str) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(clients.as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let chain = CertificateDer::pem_slice_iter(certificate.chain_pem().as_bytes());
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem().as_bytes()).unwrap();
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.unwrap();
    let builder =
        builder.with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap());
    let mut config = builder.with_single_cert(chain.map(Result::unwrap).collect(), key).unwrap();
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Arc::new(config)
}

type Secured = StreamOwned<ServerConnection, TcpStream>;

struct Visit {
    visitor: Visitor,
    direct: bool,
}

impl Visit {
    fn receive(
        &mut self,
        mut tcp: TcpStream,
        config: Arc<ServerConfig>,
        certificate: &Certificate,
        act: Act,
    ) -> std::io::Result<()> {
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(Duration::from_secs(30)))?;
        if !self.direct {
            let mut first = vec![0; 8];
            tcp.read_exact(&mut first)?;
            self.visitor.before = first;
            if let Act::Answer(answer) = act {
                tcp.write_all(answer)?;
                tcp.read_to_end(&mut self.visitor.afterwards)?;
                return Ok(());
            }
            tcp.write_all(b"S")?;
        }
        let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
        self.visitor.startup = packet(&mut tls)?;
        let connection = &tls.conn;
        self.visitor.server_name = connection.server_name().map(str::to_owned);
        self.visitor.protocol = connection.alpn_protocol().map(<[u8]>::to_vec);
        let certificates = connection.peer_certificates().unwrap_or_default();
        self.visitor.certificates = certificates.iter().map(|one| one.to_vec()).collect();
        if let Act::Send(bytes) = act {
            tls.write_all(&bytes)?;
            tls.read_to_end(&mut self.visitor.afterwards)?;
            return Ok(());
        }
        self.log_in(&mut tls, certificate)?;
        tls.write_all(Script::PRELUDE)?;
        if let Act::Lose { close_notify } = act {
            for answer in [Script::FACTS, Script::ACK] {
                message(&mut tls)?;
                tls.write_all(answer)?;
            }
            tls.write_all(&note("1"))?;
            // The session is live and has received it.
            std::thread::sleep(Duration::from_millis(50));
            if close_notify {
                tls.conn.send_close_notify();
                tls.flush()?;
            }
            return Ok(());
        }
        while let Ok((b'Q', body)) = message(&mut tls) {
            let query = String::from_utf8(body[..body.len() - 1].to_vec()).unwrap();
            tls.write_all(&Peer::answer(&query))?;
        }
        Ok(())
    }

    /// SCRAM-SHA-256-PLUS, or without PLUS if the client chooses it.
    fn log_in(&mut self, tls: &mut Secured, certificate: &Certificate) -> std::io::Result<()> {
        tls.write_all(&hex(SASL_PLUS))?;
        let (_, first) = message(tls)?;
        let end = first.iter().position(|byte| *byte == 0).unwrap();
        self.visitor.mechanism = String::from_utf8(first[..end].to_vec()).unwrap();
        let text = String::from_utf8(first[end + 5..].to_vec()).unwrap();
        let (header, bare) = text.split_at(text.find(",,").unwrap() + 2);
        let nonce = bare.split_once("r=").unwrap().1;
        let server_first = format!("r={nonce}server,s={},i=4096", STANDARD.encode("salt"));
        tls.write_all(&request(11, server_first.as_bytes()))?;
        let (_, last) = message(tls)?;
        let last = String::from_utf8(last).unwrap();
        let (without_proof, _) = last.split_once(",p=").unwrap();
        let binding = without_proof.strip_prefix("c=").unwrap().split_once(',').unwrap().0;
        let binding = STANDARD.decode(binding).unwrap();
        let leaf = CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap();
        let expected = tls_server_end_point(&leaf).unwrap();
        self.visitor.is_bound = binding == [header.as_bytes(), &expected].concat();
        let signed = format!("{bare},{server_first},{without_proof}");
        let key = hmac(salted_password(), b"Server Key");
        let signature = format!("v={}", STANDARD.encode(hmac(&key, signed.as_bytes())));
        tls.write_all(&request(12, signature.as_bytes()))
    }
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

/// Derived once.
fn salted_password() -> &'static [u8] {
    static SALTED: OnceLock<Vec<u8>> = OnceLock::new();
    SALTED.get_or_init(|| {
        let mut last = hmac(PASSWORD.as_bytes(), b"salt\0\0\0\x01");
        let mut sum = last.clone();
        for _ in 1..4_096 {
            last = hmac(PASSWORD.as_bytes(), &last);
            sum.iter_mut().zip(&last).for_each(|(sum, byte)| *sum ^= byte);
        }
        sum
    })
}

fn packet(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut rest = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
    stream.read_exact(&mut rest)?;
    Ok(rest)
}

fn message(stream: &mut impl Read) -> std::io::Result<(u8, Vec<u8>)> {
    let mut tag = [0];
    stream.read_exact(&mut tag)?;
    Ok((tag[0], packet(stream)?))
}
