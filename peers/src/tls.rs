//! Certificates and settings of TLS. All contestants use version 1.3 with AES-256-GCM, because the server supports nothing else.

use std::path::Path;
use std::sync::Arc;

use pgbell_testkit::{Certificate, Certificates, Leaf};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::cipher_suite::TLS13_AES_256_GCM_SHA384;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::outcome::Outcome;

/// A server's certificate and its root, in files that are removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Identity {
    root: Certificate,
    server: Certificate,
}

impl Identity {
    pub(crate) fn new() -> Outcome<Self> {
        let root = Certificates::new()?.authority("root")?;
        let server = root.issue(&Leaf::server("127.0.0.1"))?;
        Ok(Self { root: root.certificate().clone(), server })
    }

    /// Returns the root certificate, for clients.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Returns certificate and key, for the server.
    pub(crate) fn files(&self) -> [&Path; 2] {
        [self.server.chain_path(), self.server.key_path()]
    }
}

fn provider() -> Arc<CryptoProvider> {
    let provider = rustls::crypto::ring::default_provider();
    Arc::new(CryptoProvider { cipher_suites: vec![TLS13_AES_256_GCM_SHA384], ..provider })
}

/// Returns a configuration without tickets, as in PostgreSQL.
pub(crate) fn server_config(certificate: &Path, key: &Path) -> Outcome<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(&[&TLS13])?.with_no_client_auth();
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

pub(crate) fn client_config(root: &Path) -> Outcome<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root)?)?;
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(&[&TLS13])?.with_root_certificates(roots);
    Ok(builder.with_no_client_auth())
}
