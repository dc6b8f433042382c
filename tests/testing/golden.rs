//! Recorded conversations, byte for byte: the crate's session against the recorded server, and the backend against the recorded
//! client.

use std::time::Instant;

use pgbell::ErrorKind;
use pgbell::testing::{Auth, Backend, BackendConfig, Delivery, Script};

use super::play::{Action, Client, serve, visit};
use super::session;

struct Golden {
    transcript: &'static str,
    config: fn() -> BackendConfig,
    user: &'static str,
    password: Option<&'static str>,
    actions: &'static [Action],
    /// Distance between the split positions. 1 except for SCRAM, which derives its keys each time.
    stride: usize,
    received: &'static [&'static str],
}

const GOLDEN: &[Golden] = &[
    Golden {
        transcript: include_str!("golden/listen.txt"),
        config: BackendConfig::new,
        user: "alice",
        password: None,
        actions: &[
            Action::Listen(&["orders", "a\"b"]),
            Action::Query("NOTIFY orders, 'é'; NOTIFY \"a\"\"b\"; NOTIFY orders, 'é'"),
            Action::Query("LISTEN"),
            Action::Terminate,
        ],
        stride: 1,
        received: &["1000:orders=é", "1000:a\"b="],
    },
    Golden {
        transcript: include_str!("golden/bound.txt"),
        config: BackendConfig::new,
        user: "alice",
        password: None,
        actions: &[Action::Listen(&["orders"]), Action::Notify("orders", "42"), Action::Terminate],
        stride: 1,
        received: &["1000:orders=42"],
    },
    Golden {
        transcript: include_str!("golden/md5.txt"),
        config: || {
            let config = BackendConfig::new().auth(Auth::Md5).md5_salt([1, 2, 3, 4]);
            config.user("postgres", "secret")
        },
        user: "postgres",
        password: Some("secret"),
        actions: &[Action::Terminate],
        stride: 1,
        received: &[],
    },
    Golden {
        transcript: include_str!("golden/scram-sha-256.txt"),
        config: || {
            // The salt of RFC 7677. Its nonces are not base64, and those of this crate always are.
            let salt = *b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81";
            let config = BackendConfig::new().auth(Auth::ScramSha256).scram_salt(salt);
            config.scram_nonce(*b"server nonce 18 by").user("user", "pencil")
        },
        user: "user",
        password: Some("pencil"),
        actions: &[Action::Terminate],
        stride: 41,
        received: &[],
    },
];

impl Golden {
    fn script(&self) -> Script {
        self.transcript.parse().unwrap()
    }

    fn deliveries(&self, script: &Script) -> impl Iterator<Item = Delivery> + use<> {
        let mut all = Delivery::all(script.sent_bytes());
        let whole_and_bytewise = [all.next(), all.next()];
        whole_and_bytewise.into_iter().flatten().chain(all.step_by(self.stride))
    }

    fn client(&self) -> Client {
        let now = Instant::now();
        Client::new(session(self.user, self.password, now), now, self.actions)
    }
}

#[test]
fn the_session_sends_the_recorded_bytes_for_every_split_of_the_answers() {
    for golden in GOLDEN {
        let script = golden.script();
        for delivery in golden.deliveries(&script) {
            let mut client = golden.client();
            let played = serve(script.clone(), &mut client, delivery);
            assert_eq!(played, Ok(()), "{delivery:?}");
            assert_eq!(client.received, golden.received, "{delivery:?}");
            assert!(client.error.is_none());
        }
    }
}

#[test]
fn the_backend_sends_the_recorded_bytes_for_every_split_of_the_requests() {
    for golden in GOLDEN {
        let script = golden.script();
        for delivery in golden.deliveries(&script.clone().reversed()) {
            let mut backend = Backend::new((golden.config)());
            assert_eq!(visit(script.clone(), &mut backend, delivery), Ok(()), "{delivery:?}");
        }
    }
}

/// F15.
#[test]
fn the_end_of_the_stream_is_an_error_after_every_byte() {
    for golden in GOLDEN {
        let script = golden.script();
        for end in (0..script.sent_bytes()).step_by(golden.stride) {
            let mut client = golden.client();
            // A script that is cut off may leave the client waiting: the stream ends there.
            let _ = serve(script.clone().cut_after(end), &mut client, Delivery::Whole);
            client.end();
            assert_eq!(client.error.unwrap().kind(), ErrorKind::Connect, "{end}");
        }
    }
}
