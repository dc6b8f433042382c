//! Handshakes that fail or are slow.

use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::super::handshake::HANDSHAKE_BYTES_MAX;
use super::server::*;
use crate::error::{Error, ErrorKind};

/// Does a handshake with a server that sends this answer to the client's hello, and ends the connection.
async fn answered(answer: &[u8], parameters: &str) -> Error {
    let (ours, mut theirs) = duplex(1024 * 1024);
    let serve = async {
        let mut hello = [0; 5];
        theirs.read_exact(&mut hello).await.unwrap();
        let mut rest = vec![0; usize::from(u16::from_be_bytes([hello[3], hello[4]]))];
        theirs.read_exact(&mut rest).await.unwrap();
        // The client may have ended the connection before.
        let _ = theirs.write_all(answer).await;
        let _ = theirs.shutdown().await;
        theirs
    };
    let config = config(parameters);
    let (result, _theirs) = tokio::join!(connect(&config, ours), serve);
    result.unwrap_err()
}

/// Returns a ServerHello of TLS 1.2.
fn server_hello(version: [u8; 2], extensions: &[u8]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.push(0);
    // TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, no compression.
    body.extend([0xc0, 0x2b, 0]);
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let message = [&[2, 0, 0, u8::try_from(body.len()).unwrap()][..], &body].concat();
    record(22, version, &message)
}

fn record(content: u8, version: [u8; 2], body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[content][..], &version, &length, body].concat()
}

#[tokio::test]
async fn client_and_server_agree_on_the_results_of_a_handshake() {
    for tls13 in [true, false] {
        let setup = Setup::good().version(tls13);
        let (result, server) = attempt(&setup, "sslmode=require").await;
        let secured = result.unwrap();
        assert_eq!(server.connection.server_name(), Some("localhost"));
        assert_eq!(server.connection.alpn_protocol(), Some(&b"postgresql"[..]));
        assert!(!secured.certificate_requested && !secured.certificate_sent);
        assert_eq!(secured.end_point.unwrap().len(), 32);
    }
}

#[tokio::test]
async fn a_handshake_succeeds_byte_by_byte() {
    for tls13 in [true, false] {
        let (ours, theirs) = duplex(1);
        let mut server = Setup::good().version(tls13).over(theirs);
        let config = config("sslmode=require");
        let (secured, shaken) = tokio::join!(connect(&config, ours), server.handshake());
        assert!(shaken && secured.is_ok());
    }
}

/// T6.
#[tokio::test]
async fn a_server_that_continues_without_tls_is_refused() {
    let prelude = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x19client_encoding\0UTF8\0Z\0\0\0\x05I";
    for answer in
        [&prelude[..], b"E\0\0\0\x10SECRET\0\0\0\0\0\0", b"HTTP/1.1 400\r\n", b"SSH-2.0-x\n"]
    {
        let error = answered(answer, "sslmode=require").await;
        assert_eq!(error.kind(), ErrorKind::Tls);
        assert!(error.to_string().contains("not TLS") && !error.to_string().contains("SECRET"));
        let hint = "is there a PostgreSQL server at this port? With sslnegotiation=direct it must be version 17";
        assert!(error.hint().unwrap().contains(hint), "{error}");
    }
}

/// T7.
#[tokio::test]
async fn with_direct_tls_the_server_must_choose_the_protocol() {
    let direct = "sslmode=require sslnegotiation=direct";
    let silent = Setup { protocols: vec![], ..Setup::good() };
    let error = refusal(&silent, direct).await;
    assert!(error.to_string().contains("ALPN"), "{error}");
    assert!(attempt(&Setup::good(), direct).await.0.is_ok());
    // After SSLRequest a server need not choose it: PostgreSQL 16 and older do not.
    assert!(attempt(&silent, "sslmode=require").await.0.is_ok());
}

/// T7.
#[tokio::test]
async fn another_protocol_is_refused_with_and_without_direct_tls() {
    let h2 = [0, 0x10, 0, 5, 0, 3, 2, b'h', b'2'];
    for parameters in ["sslmode=require", "sslmode=require sslnegotiation=direct"] {
        let other = Setup { protocols: vec!["h2"], ..Setup::good() };
        let error = refusal(&other, parameters).await;
        assert!(error.to_string().contains("no_application_protocol"), "{error}");
        assert!(error.hint().unwrap().contains("ALPN postgresql"), "{error}");
        // A server that chooses a protocol that was not offered.
        let error = answered(&server_hello([3, 3], &h2), parameters).await;
        assert_eq!(error.kind(), ErrorKind::Tls);
        let text = format!("{error:#}");
        assert!(text.contains("SelectedUnofferedApplicationProtocol"), "{text}");
    }
}

/// T10.
#[tokio::test]
async fn a_server_with_an_older_version_is_refused_with_a_hint() {
    let alert = record(21, [3, 1], &[2, 70]);
    for answer in [server_hello([3, 1], &[]), server_hello([3, 2], &[]), alert] {
        let error = answered(&answer, "sslmode=require").await;
        assert_eq!(error.kind(), ErrorKind::Tls);
        assert!(error.to_string().contains("no version of TLS in common"), "{error}");
        let hint = "pgbell supports TLS 1.2 and 1.3: check ssl_max_protocol_version of the server, and \
                    ssl_min_protocol_version and ssl_max_protocol_version of the connection";
        assert_eq!(error.hint(), Some(hint));
    }
}

#[tokio::test]
async fn only_allowed_versions_are_used() {
    let tls12 = Setup::good().tls12();
    let tls13 = Setup { versions: vec![&rustls::version::TLS13], ..Setup::good() };
    let min13 = "sslmode=require ssl_min_protocol_version=TLSv1.3";
    let max12 = "sslmode=require ssl_max_protocol_version=TLSv1.2";
    assert!(attempt(&tls13, min13).await.0.is_ok());
    assert!(attempt(&tls12, max12).await.0.is_ok());
    for (setup, parameters) in [(&tls12, min13), (&tls13, max12)] {
        let error = refusal(setup, parameters).await;
        assert!(error.to_string().contains("no version of TLS in common"), "{error}");
    }
}

/// T12.
#[tokio::test]
async fn close_notify_ends_the_handshake() {
    for level in [1, 2] {
        let error = answered(&record(21, [3, 3], &[level, 0]), "sslmode=require").await;
        assert!(error.to_string().contains("ended the connection"), "{level}: {error}");
        let hint =
            "the server's log has the reason; it may also be overloaded, or not be PostgreSQL";
        assert_eq!(error.hint(), Some(hint), "{level}");
    }
}

/// T12: it does not loop, and has no deadline; the caller has one.
#[tokio::test(start_paused = true)]
async fn a_handshake_at_one_byte_a_second_waits_for_the_deadline() {
    let (ours, mut theirs) = duplex(1024 * 1024);
    let serve = async {
        for byte in server_hello([3, 3], &[]) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            theirs.write_all(&[byte]).await.unwrap();
        }
        std::future::pending::<()>().await;
    };
    let config = config("sslmode=require");
    let connect = tokio::time::timeout(Duration::from_secs(10), connect(&config, ours));
    tokio::select! {
        result = connect => assert!(result.is_err()),
        () = serve => {}
    }
}

/// T12, V29: messages that cost time and have no effect.
#[tokio::test]
async fn a_flood_of_messages_ends_the_handshake() {
    let change_cipher_spec = record(20, [3, 3], &[1]).repeat(1_000);
    let warnings = record(21, [3, 3], &[1, 90]).repeat(1_000);
    let empty = record(22, [3, 3], &[]).repeat(1_000);
    let data = record(23, [3, 3], b"x").repeat(1_000);
    let hellos = record(22, [3, 3], &[0, 0, 0, 0]).repeat(1_000);
    // A message with the largest length.
    let endless = record(22, [3, 3], &[[2, 0xff, 0xff, 0xff].as_slice(), &[0; 16_000]].concat());
    let fragments = record(22, [3, 3], &[2]).repeat(HANDSHAKE_BYTES_MAX);
    for answer in [change_cipher_spec, warnings, empty, data, hellos, endless, fragments] {
        let error = answered(&answer, "sslmode=require").await;
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    }
}

/// A message of the largest size that rustls accepts, in small parts, with further bytes.
#[tokio::test]
async fn more_bytes_than_a_handshake_may_have_are_refused() {
    let part = record(22, [3, 3], &[0xff; 100]);
    let first = record(22, [3, 3], &[2, 0, 0xff, 0xff]);
    let answer = [&first[..], &part.repeat(HANDSHAKE_BYTES_MAX / part.len() + 100)].concat();
    let error = answered(&answer, "sslmode=require").await;
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
}

#[tokio::test]
async fn an_end_after_any_prefix_of_the_handshake_is_an_error() {
    for tls13 in [true, false] {
        for cut in (0..2_000).step_by(7) {
            let (ours, theirs) = duplex(64 * 1024);
            let mut server = Setup::good().version(tls13).over(theirs);
            let config = config("sslmode=require");
            let serve = async {
                let mut allowed = cut;
                while server.connection.is_handshaking() {
                    let mut bytes = Vec::new();
                    while server.connection.wants_write() {
                        server.connection.write_tls(&mut bytes).unwrap();
                    }
                    bytes.truncate(allowed);
                    allowed -= bytes.len();
                    server.io.write_all(&bytes).await.unwrap();
                    if allowed == 0 || !server.receive().await {
                        break;
                    }
                }
                let whole = !server.connection.is_handshaking();
                drop(server);
                whole
            };
            let (result, whole) = tokio::join!(connect(&config, ours), serve);
            if let Err(error) = result {
                assert_eq!(error.kind(), ErrorKind::Connect, "{cut}: {error}");
            } else {
                assert!(whole || tls13, "{cut}");
            }
        }
    }
}

#[tokio::test]
async fn the_error_for_an_alert_has_a_hint() {
    for (alert, words) in [
        (40, "check its ssl_ciphers and ssl_groups"),
        (112, "use the right name, or sslsni=0"),
        (116, "it requires a certificate of the client: name it with sslcert"),
        (120, "does not support PostgreSQL's protocol over TLS (ALPN postgresql)"),
        (80, "the server's log has the reason"),
        (200, "the server's log has the reason"),
    ] {
        let error = answered(&record(21, [3, 3], &[2, alert]), "sslmode=require").await;
        assert_eq!(error.kind(), ErrorKind::Tls);
        assert!(error.hint().unwrap().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_refused_server_receives_an_alert() {
    let root = super::zoo::tempdir();
    let file = root.file("root.crt", super::zoo::OTHER_ROOT.certificate().pem());
    for tls13 in [true, false] {
        let parameters = format!("sslmode=verify-ca sslrootcert={file}");
        let (result, mut server) = attempt(&Setup::good().version(tls13), &parameters).await;
        assert!(result.is_err());
        drop(result);
        while server.receive().await {}
        assert_eq!(
            server.failed,
            Some(rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA))
        );
    }
}

#[tokio::test]
async fn the_host_name_is_sent_unless_it_is_an_address_or_sni_is_disabled() {
    for (parameters, name) in [
        ("host=localhost", Some("localhost")),
        ("host=LocalHost", Some("localhost")),
        ("host=localhost hostaddr=127.0.0.1", Some("localhost")),
        ("host=localhost sslsni=0", None),
        ("host=127.0.0.1", None),
        ("host=::1", None),
        ("hostaddr=127.0.0.1 host=''", None),
        ("host=127.1 hostaddr=127.0.0.1", None),
        ("host=a_b.example", Some("a_b.example")),
        ("host='not a name' hostaddr=127.0.0.1", None),
    ] {
        let parameters = format!("sslmode=require {parameters}");
        let (result, server) = attempt(&Setup::good(), &parameters).await;
        assert!(result.is_ok(), "{parameters}: {result:?}");
        assert_eq!(server.connection.server_name(), name, "{parameters}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_answers_to_the_clients_hello_end_in_an_error(
        content in 20u8..24,
        kind in any::<u8>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        in_record in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let length = u8::try_from(bytes.len() / 256).unwrap();
        let message = [&[kind, 0, length, u8::try_from(bytes.len() % 256).unwrap()][..], &bytes].concat();
        let answer = if in_record { record(content, [3, 3], &message) } else { message };
        let error = runtime.block_on(answered(&answer, "sslmode=require"));
        prop_assert!(matches!(error.kind(), ErrorKind::Tls | ErrorKind::Connect), "{}", error);
    }
}
