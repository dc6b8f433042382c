//! Builds with fewer features: what is not compiled in is named by an error, with a hint. No server is needed.
//!
//! Each test runs only with the features that it names; `./test.sh` runs them with several sets.

#[cfg(all(feature = "tokio", not(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))))]
mod without_cryptography {
    use pgbell::{Connection, Error, ErrorKind};

    /// The error of a connection that must use TLS. It is known before a socket is opened.
    async fn refusal(mode: &str) -> Error {
        let url = format!("postgresql://bob@192.0.2.1/shop?sslmode={mode}");
        Connection::connect(&*url).await.unwrap_err()
    }

    #[cfg(not(feature = "tls"))]
    #[tokio::test]
    async fn a_build_without_tls_has_a_hint_that_names_the_features() {
        let hint = "build pgbell with the feature `tls-ring` or `tls-aws-lc-rs`";
        for mode in ["require", "verify-ca", "verify-full"] {
            let error = refusal(mode).await;
            assert_eq!(
                (error.kind(), error.hint()),
                (ErrorKind::Unsupported, Some(hint)),
                "{error}"
            );
            assert!(error.to_string().contains(&format!("sslmode={mode} asks for TLS")), "{error}");
        }
    }

    #[cfg(feature = "tls")]
    #[tokio::test]
    async fn a_build_without_a_provider_has_a_hint_that_names_the_features_and_the_function() {
        let hint = "build pgbell with the feature tls-ring or tls-aws-lc-rs, or install a provider with \
                    rustls::crypto::CryptoProvider::install_default";
        for mode in ["prefer", "require", "verify-ca", "verify-full"] {
            let error = refusal(mode).await;
            assert_eq!(
                (error.kind(), error.hint()),
                (ErrorKind::Tls, Some(hint)),
                "{mode}: {error}"
            );
        }
    }
}
