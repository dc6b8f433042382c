//! A cryptography provider that does not give out its keys, as one with keys in hardware.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::cipher::{
    AeadKey, Iv, MessageDecrypter, MessageEncrypter, Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::{ConnectionTrafficSecrets, SupportedCipherSuite, Tls13CipherSuite};

use super::super::config::provider;
use super::server::*;
use super::settings::{own_with, with_own};

struct KeepsKeys(&'static dyn Tls13AeadAlgorithm);

impl Tls13AeadAlgorithm for KeepsKeys {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        self.0.encrypter(key, iv)
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(
        &self,
        _: AeadKey,
        _: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Err(UnsupportedOperationError)
    }
}

#[tokio::test]
async fn a_provider_that_keeps_its_keys_can_be_used() {
    let mut provider = CryptoProvider::clone(&provider().unwrap());
    provider.cipher_suites = provider
        .cipher_suites
        .iter()
        .filter_map(SupportedCipherSuite::tls13)
        .map(|suite| {
            let aead_alg = Box::leak(Box::new(KeepsKeys(suite.aead_alg)));
            let common = rustls::CipherSuiteCommon { ..suite.common };
            let suite = Tls13CipherSuite { common, aead_alg, ..*suite };
            SupportedCipherSuite::Tls13(Box::leak(Box::new(suite)))
        })
        .collect();
    let client = own_with(Arc::new(provider));
    with_own(&Setup::good(), "sslmode=require", client).await.unwrap();
}
