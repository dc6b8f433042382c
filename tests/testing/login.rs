//! Logins with every method, with the right password and with wrong ones.

use std::time::Instant;

use bytes::BytesMut;
use pgbell::ErrorKind;
use pgbell::proto::auth::AuthMethod;
use pgbell::proto::session::Session;
use pgbell::proto::wire::{ProtocolVersion, StartupPacket, StartupParameters};
use pgbell::testing::{Auth, Backend, BackendConfig, Link};

use super::session;

const METHODS: [(Auth, AuthMethod); 4] = [
    (Auth::Trust, AuthMethod::Trust),
    (Auth::Password, AuthMethod::Password),
    (Auth::Md5, AuthMethod::Md5),
    (Auth::ScramSha256, AuthMethod::ScramSha256),
];

fn backend(auth: Auth) -> Backend {
    // Few rounds: their number is tested elsewhere, and the time adds up over the chunk sizes.
    Backend::new(BackendConfig::new().auth(auth).user("alice", "pencil").scram_iterations(16))
}

fn login(backend: &mut Backend, user: &str, password: &str, size: usize) -> Link {
    let now = Instant::now();
    let session: Session = session(user, Some(password), now);
    let mut link = Link::new(session, backend, now).chunks([size]);
    link.settle(backend);
    link
}

#[test]
fn the_right_password_is_accepted_in_chunks_of_any_size() {
    for (auth, method) in METHODS {
        let mut backend = backend(auth);
        for size in 1..=17 {
            let mut link = login(&mut backend, "alice", "pencil", size);
            assert!(link.error().is_none(), "{auth:?}: {:?}", link.error());
            let session = link.session();
            assert!(session.is_ready());
            assert_eq!(session.auth_method(), Some(method));
            assert_eq!(session.parameter("server_encoding"), Some("UTF8"));
            assert_eq!(session.parameter("session_authorization"), Some("alice"));
            assert_eq!(session.parameter("application_name"), Some("test"));
        }
    }
}

#[test]
fn a_wrong_password_and_an_unknown_role_are_refused_alike() {
    for (auth, _) in METHODS {
        let mut backend = backend(auth);
        for (user, password) in [("alice", "Pencil"), ("mallory", "pencil")] {
            let trusted = auth == Auth::Trust && user == "alice";
            let code = if auth == Auth::Trust { "28000" } else { "28P01" };
            for size in [1, 2, 3, usize::MAX] {
                let mut link = login(&mut backend, user, password, size);
                assert_eq!(link.session().is_ready(), trusted, "{auth:?} {user}");
                if !trusted {
                    let error = link.error().unwrap();
                    assert_eq!(error.kind(), ErrorKind::Auth, "{auth:?} {user} {size} {error}");
                    assert_eq!(error.sqlstate(), Some(code), "{auth:?} {user}");
                    assert!(!format!("{error} {error:?}").contains(password));
                }
            }
        }
        assert!(!format!("{backend:?}").contains("pencil"));
    }
}

/// The backend's answer to the bytes of another client.
fn answer(input: &[u8]) -> (Vec<u8>, bool) {
    let mut backend = Backend::default();
    let id = backend.connect();
    let mut input = BytesMut::from(input);
    backend.handle_input(id, &mut input);
    (backend.transmit(id).to_vec(), backend.is_closed(id))
}

fn packet(packet: &StartupPacket<'_>) -> BytesMut {
    let mut bytes = BytesMut::new();
    packet.encode(&mut bytes).unwrap();
    bytes
}

#[test]
fn encryption_is_declined_once_for_each_kind() {
    let tls = packet(&StartupPacket::SslRequest);
    let gss = packet(&StartupPacket::GssEncRequest);
    assert_eq!(answer(&[&gss[..], &tls].concat()), (b"NN".to_vec(), false));
    let (output, closed) = answer(&[&tls[..], &tls].concat());
    assert!(output.starts_with(b"NE") && closed);
}

#[test]
fn a_cancel_request_is_answered_by_closing() {
    let cancel = StartupPacket::CancelRequest { process_id: 7, secret_key: &[0; 4] };
    assert_eq!(answer(&packet(&cancel)), (Vec::new(), true));
}

#[test]
fn newer_protocols_and_options_are_negotiated_down() {
    for (version, option, negotiated) in [
        (ProtocolVersion::V3_0, None, false),
        (ProtocolVersion::V3_2, None, false),
        (ProtocolVersion(0x0003_270f), None, true),
        (ProtocolVersion::V3_0, Some(("_pq_.x", "1")), true),
    ] {
        let parameters: Vec<_> = [("user", "a")].into_iter().chain(option).collect();
        let parameters = StartupParameters::new(&parameters);
        let (output, closed) = answer(&packet(&StartupPacket::Startup { version, parameters }));
        assert_eq!(output.first() == Some(&b'v'), negotiated, "{version}");
        assert!(!closed && output.ends_with(b"Z\0\0\0\x05I"));
        let key_bytes = if version == ProtocolVersion::V3_0 { 0x0c } else { 0x28 };
        let key = [b'K', 0, 0, 0, key_bytes];
        assert!(output.windows(5).any(|window| window == key), "{version}");
    }
}

#[test]
fn an_invalid_login_ends_with_fatal() {
    let startup = |version, parameters: &[(&str, &str)]| {
        let parameters = StartupParameters::new(parameters);
        packet(&StartupPacket::Startup { version, parameters }).to_vec()
    };
    let trusted = startup(ProtocolVersion::V3_0, &[("user", "a")]);
    for (input, code) in [
        (startup(ProtocolVersion(0x0002_0000), &[("user", "a")]), "C0A000"),
        (startup(ProtocolVersion::V3_0, &[("database", "a")]), "C28000"),
        (startup(ProtocolVersion::V3_0, &[("user", "a"), ("client_encoding", "SJIS")]), "C22023"),
        (b"GET / HTTP/1.1\r\n".to_vec(), "C08P01"),
        ([&trusted[..], b"Z\0\0\0\x04"].concat(), "C08P01"),
        ([&trusted[..], b"Q\x7f\0\0\0"].concat(), "C54000"),
        ([&trusted[..], b"p\0\0\0\x05\0"].concat(), "C08P01"),
    ] {
        let (output, closed) = answer(&input);
        let text = String::from_utf8_lossy(&output).into_owned();
        assert!(closed && text.contains("VFATAL\0") && text.contains(code), "{text:?}");
    }
}
