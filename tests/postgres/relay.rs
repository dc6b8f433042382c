//! A relay between client and server: it ends the client's TLS with its own certificate, forwards the messages of both
//! sides, and records each client.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pgbell_testkit::{Authority, Certificate, Cluster};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

use crate::support::TEST_TIMEOUT;

/// The request for TLS.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// An empty packet, which no client sends. It marks the end of the clients.
const BARRIER: [u8; 4] = [0, 0, 0, 4];

/// The behaviour of the relay for each client.
#[derive(Clone)]
pub(crate) struct Plan {
    /// The answer to the request for TLS.
    pub(crate) answer: Answer,
    /// Under TLS, these bytes are the answer to the startup packet, and the connection ends.
    pub(crate) startup_answer: Option<Vec<u8>>,
    /// The connection of the relay to the server.
    pub(crate) offer: Offer,
}

#[derive(Clone)]
pub(crate) enum Answer {
    /// These bytes, and the end of the connection.
    Say(&'static [u8]),
    /// Yes, then these bytes as the answer to the ClientHello, and the end of the connection.
    ToHello(&'static [u8]),
    /// No. The client may continue in the clear.
    No,
    /// Yes, with this certificate.
    Show(Box<Shown>),
}

#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) certificate: Certificate,
    /// TLS 1.2 only.
    pub(crate) is_old: bool,
    /// Certificates of clients must be from this authority.
    pub(crate) clients: Option<String>,
}

/// The mechanisms that a client is offered, besides SCRAM-SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// The server's offer under TLS: SCRAM-SHA-256-PLUS.
    Kept,
    /// The same without SCRAM-SHA-256-PLUS.
    Stripped,
    /// The server's offer without TLS: no other mechanism.
    Clear,
}

impl Plan {
    pub(crate) fn answer(answer: Answer) -> Self {
        Self { answer, startup_answer: None, offer: Offer::Clear }
    }

    pub(crate) fn show(certificate: &Certificate) -> Self {
        Self::answer(Answer::Show(Box::new(Shown {
            certificate: certificate.clone(),
            is_old: false,
            clients: None,
        })))
    }

    pub(crate) fn offer(self, offer: Offer) -> Self {
        Self { offer, ..self }
    }

    pub(crate) fn startup_answer(self, bytes: &[u8]) -> Self {
        Self { startup_answer: Some(bytes.to_vec()), ..self }
    }
}

/// The record of one client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ClientRecord {
    /// True if the startup packet came under TLS. `None` if there was none.
    pub(crate) startup_under_tls: Option<bool>,
    /// The mechanism and GS2 flag of its first SASL message: `SCRAM-SHA-256 y`.
    pub(crate) sasl: Option<String>,
    /// Its answer to a request for the password in clear or MD5.
    pub(crate) password: Option<Vec<u8>>,
    /// The server sent ReadyForQuery.
    pub(crate) is_in: bool,
}

pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    plan: Arc<Mutex<Plan>>,
    met: Arc<Mutex<Vec<ClientRecord>>>,
    barriers: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts a relay between its clients and `server`, whose certificate is from `root`.
    pub(crate) fn start(server: &Cluster, root: &Authority, plan: Plan) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let upstream = Upstream {
            address: format!("{}:{}", server.host(), server.port()),
            config: client_config(root),
        };
        let mut relay = Self {
            address,
            plan: Arc::new(Mutex::new(plan)),
            met: Arc::default(),
            barriers: Arc::default(),
            over: Arc::default(),
            thread: None,
        };
        let (plan, met) = (relay.plan.clone(), relay.met.clone());
        let (barriers, over) = (relay.barriers.clone(), relay.over.clone());
        relay.thread = Some(std::thread::spawn(move || {
            loop {
                let (tcp, _) = listener.accept().unwrap();
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let plan = plan.lock().unwrap().clone();
                let upstream = upstream.clone();
                let mut connection = RelayedClient {
                    plan,
                    upstream,
                    met: ClientRecord::default(),
                    is_barrier: false,
                };
                // A client or server that closes early causes an error here.
                let _ = connection.receive(tcp);
                if connection.is_barrier {
                    barriers.fetch_add(1, Ordering::Release);
                } else {
                    met.lock().unwrap().push(connection.met);
                }
            }
        }));
        relay
    }

    pub(crate) fn set(&self, plan: Plan) {
        *self.plan.lock().unwrap() = plan;
    }

    /// Returns the clients since the last call. Waits for those that are still connected.
    pub(crate) fn met(&self) -> Vec<ClientRecord> {
        let deadline = Instant::now() + TEST_TIMEOUT;
        let before = self.barriers.load(Ordering::Acquire);
        // Clients are served one by one, and this one comes last.
        TcpStream::connect(self.address).unwrap().write_all(&BARRIER).unwrap();
        while self.barriers.load(Ordering::Acquire) == before {
            assert!(Instant::now() < deadline, "a client does not leave the relay");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::mem::take(&mut *self.met.lock().unwrap())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the relay went wrong");
    }
}

#[derive(Clone)]
struct Upstream {
    address: String,
    config: Arc<ClientConfig>,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

struct RelayedClient {
    plan: Plan,
    upstream: Upstream,
    met: ClientRecord,
    is_barrier: bool,
}

impl RelayedClient {
    fn receive(&mut self, mut tcp: TcpStream) -> io::Result<()> {
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(TEST_TIMEOUT))?;
        let mut first = packet(&mut tcp)?;
        self.is_barrier = first == BARRIER;
        if self.is_barrier {
            return Ok(());
        }
        if first == SSL_REQUEST {
            match self.plan.answer.clone() {
                Answer::Say(bytes) => return end_with(tcp, bytes),
                Answer::ToHello(bytes) => {
                    tcp.write_all(b"S")?;
                    tcp.read_exact(&mut [0; 5])?;
                    return end_with(tcp, bytes);
                }
                Answer::No => {
                    tcp.write_all(b"N")?;
                    first = packet(&mut tcp)?;
                }
                Answer::Show(shown) => {
                    tcp.write_all(b"S")?;
                    let connection = ServerConnection::new(shown.config()).unwrap();
                    let mut tls = StreamOwned::new(connection, tcp);
                    let startup = packet(&mut tls)?;
                    self.met.startup_under_tls = Some(true);
                    if let Some(bytes) = self.plan.startup_answer.clone() {
                        tls.write_all(&bytes)?;
                        tls.conn.send_close_notify();
                        tls.flush()?;
                        tls.sock.shutdown(Shutdown::Write)?;
                        return tls.sock.read_to_end(&mut Vec::new()).map(drop);
                    }
                    return self.forward(&startup, &mut tls);
                }
            }
        }
        self.met.startup_under_tls = Some(false);
        self.forward(&first, &mut tcp)
    }

    fn forward(&mut self, startup: &[u8], client: &mut dyn Stream) -> io::Result<()> {
        let mut server = self.upstream.connect(self.plan.offer != Offer::Clear)?;
        server.write_all(startup)?;
        server.flush()?;
        loop {
            // Messages of the server.
            let mut requested = None;
            while requested.is_none() {
                let (tag, mut body) = message(&mut *server)?;
                if (tag, body.get(..4)) == (b'R', Some(&[0, 0, 0, 10])) && self.is_stripping() {
                    body = strip(&body);
                }
                send(client, tag, &body)?;
                requested = match (tag, body.get(..4)) {
                    (b'R', Some([0, 0, 0, code @ (3 | 5 | 10 | 11)])) => Some(*code),
                    (b'Z', _) => {
                        self.met.is_in = true;
                        Some(0)
                    }
                    _ => None,
                };
            }
            // Messages of the client.
            loop {
                let (tag, body) = message(client)?;
                match requested {
                    Some(3 | 5) => self.met.password = Some(body.clone()),
                    Some(10) => self.met.sasl = Some(sasl(&body)),
                    _ => {}
                }
                send(&mut *server, tag, &body)?;
                match tag {
                    b'X' => return Ok(()),
                    b'p' | b'Q' | b'S' => break,
                    _ => {}
                }
            }
        }
    }

    fn is_stripping(&self) -> bool {
        self.plan.offer == Offer::Stripped
    }
}

impl Upstream {
    fn connect(&self, is_tls: bool) -> io::Result<Box<dyn Stream>> {
        let mut tcp = TcpStream::connect(&self.address)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(TEST_TIMEOUT))?;
        if !is_tls {
            return Ok(Box::new(tcp));
        }
        tcp.write_all(&SSL_REQUEST)?;
        let mut answer = [0];
        tcp.read_exact(&mut answer)?;
        assert_eq!(&answer, b"S");
        let name = "localhost".try_into().unwrap();
        let connection = ClientConnection::new(self.config.clone(), name).unwrap();
        Ok(Box::new(StreamOwned::new(connection, tcp)))
    }
}

impl Shown {
    fn config(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: &[_] = if self.is_old { &[&TLS12] } else { &[&TLS12, &TLS13] };
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(versions).unwrap();
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let roots = Arc::new(roots(pem));
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let chain = CertificateDer::pem_slice_iter(self.certificate.chain_pem().as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.certificate.key_pem().as_bytes()).unwrap();
        Arc::new(builder.with_single_cert(chain.map(Result::unwrap).collect(), key).unwrap())
    }
}

fn client_config(root: &Authority) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.unwrap().with_root_certificates(roots(root.certificate().pem()));
    Arc::new(builder.with_no_client_auth())
}

fn roots(pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    roots
}

/// Sends the bytes, closes the sending direction, and waits for the end of the other one.
fn end_with(mut tcp: TcpStream, bytes: &[u8]) -> io::Result<()> {
    tcp.write_all(bytes)?;
    tcp.shutdown(Shutdown::Write)?;
    tcp.read_to_end(&mut Vec::new()).map(drop)
}

/// Returns the same AuthenticationSASL without SCRAM-SHA-256-PLUS.
fn strip(body: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(text.contains("SCRAM-SHA-256-PLUS\0"), "nothing to strip");
    text.replace("SCRAM-SHA-256-PLUS\0", "").into_bytes()
}

/// Returns the mechanism and flag of a SASLInitialResponse.
fn sasl(body: &[u8]) -> String {
    let end = body.iter().position(|byte| *byte == 0).unwrap();
    let flag = char::from(body[end + 5]);
    format!("{} {flag}", String::from_utf8_lossy(&body[..end]))
}

fn packet(stream: &mut (impl Read + ?Sized)) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut rest = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
    stream.read_exact(&mut rest)?;
    Ok([&length[..], &rest].concat())
}

fn message(stream: &mut (impl Read + ?Sized)) -> io::Result<(u8, Vec<u8>)> {
    let mut tag = [0];
    stream.read_exact(&mut tag)?;
    Ok((tag[0], packet(stream)?.split_off(4)))
}

fn send(stream: &mut (impl Write + ?Sized), tag: u8, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    stream.write_all(&[&[tag][..], &length, body].concat())?;
    stream.flush()
}
