//! The protocol version, the cancel key, and the client encoding of a session.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use pgbell::proto::auth::{Credentials, ScramNonce};
use pgbell::proto::session::{Answer, Login, Session, SessionEvent};
use pgbell::proto::wire::ProtocolVersion;
use pgbell::{Connection, ErrorKind};

use super::on_every_version;
use crate::support::{Server, TEST_TIMEOUT, next, run, until_gone, value};

on_every_version! {
    the_newest_supported_protocol_is_used_and_its_key_cancels
    a_greased_request_is_negotiated_down
    a_notification_is_committed_by_the_last_byte_of_its_sync
    a_query_is_executed_at_its_last_byte_and_a_commit_before_its_sync
    the_encoding_is_utf8_whatever_the_role_sets_and_a_change_ends_the_session
}

/// A session on a blocking socket, without a runtime.
struct Blocking {
    session: Session,
    socket: TcpStream,
    input: BytesMut,
}

impl Blocking {
    fn login(server: &Server, protocol: ProtocolVersion, parameters: &[(&str, &str)]) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", server.cluster.port())).unwrap();
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let credentials = Credentials::new("postgres").unwrap();
        let deadline = Instant::now() + TEST_TIMEOUT;
        let login = Login::new(credentials, ScramNonce::new([7; 18]), deadline)
            .protocol(protocol)
            .command_timeout(TEST_TIMEOUT);
        let login =
            parameters.iter().fold(login, |login, (name, value)| login.parameter(*name, *value));
        let session = Session::new(login);
        let input = BytesMut::new();
        let mut blocking = Self { session: session.unwrap(), socket, input };
        assert!(matches!(blocking.next(), SessionEvent::Ready));
        blocking
    }

    fn write(&mut self) {
        let out = self.session.transmit().split();
        self.socket.write_all(&out).unwrap();
    }

    /// Writes all but the last `missing` bytes, closes the socket, and waits until the server has ended the session.
    async fn close_before_last(mut self, missing: usize, watch: &mut Connection) {
        let process_id = self.session.process_id();
        let written = self.session.transmit().len() - missing;
        self.session.transmit().truncate(written);
        self.write();
        drop(self);
        until_gone(watch, process_id).await;
    }

    /// Returns the next event.
    fn next(&mut self) -> SessionEvent {
        loop {
            self.write();
            if let Some(event) = self.session.poll_event() {
                return event;
            }
            let mut bytes = [0; 4_096];
            let count = self.socket.read(&mut bytes).unwrap();
            assert!(count > 0, "the server has closed");
            self.input.extend_from_slice(&bytes[..count]);
            let _ = self.session.handle_input(Instant::now(), &mut self.input).unwrap();
        }
    }

    fn answer(&mut self) -> Answer {
        match self.next() {
            SessionEvent::Done { result, .. } => result,
            event => panic!("{event:?}"),
        }
    }
}

/// 3.2 since version 18, with a key of 32 bytes; 3.0 before, with a key of four bytes. Both cancel a query.
fn the_newest_supported_protocol_is_used_and_its_key_cancels(major: u32) {
    let server = Server::of(major);
    for (protocol, spoken) in [
        (ProtocolVersion::V3_0, ProtocolVersion::V3_0),
        (
            ProtocolVersion::V3_2,
            if major < 18 { ProtocolVersion::V3_0 } else { ProtocolVersion::V3_2 },
        ),
    ] {
        let mut session = Blocking::login(&server, protocol, &[]);
        assert_eq!(session.session.protocol_version(), spoken);
        let key = session.session.cancel_key().expect("a key");
        let mut request = BytesMut::new();
        key.encode_request(&mut request).unwrap();
        assert_eq!(request.len(), 12 + if spoken == ProtocolVersion::V3_2 { 32 } else { 4 });

        session.session.simple_query(Instant::now(), "SELECT pg_sleep(60)").unwrap();
        session.write();
        // Repeated: the server may not have begun the query when the first request arrives.
        let canceller = std::thread::spawn({
            let (port, request) = (server.cluster.port(), request.clone());
            move || {
                for _ in 0..100 {
                    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
                    socket.write_all(&request).unwrap();
                    assert_eq!(socket.read(&mut [0]).unwrap(), 0, "an answer to a cancel request");
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        let begin = Instant::now();
        let error = session.answer().unwrap_err();
        assert_eq!(error.sqlstate(), Some("57014"), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(50));
        canceller.join().unwrap();
    }
}

/// A version and an option that no server has, as the tests of newer clients request them.
fn a_greased_request_is_negotiated_down(major: u32) {
    let server = Server::of(major);
    for (protocol, options) in [
        (ProtocolVersion::GREASE, &[("_pq_.test_protocol_negotiation", "")][..]),
        (ProtocolVersion::GREASE, &[]),
        (ProtocolVersion::V3_0, &[("_pq_.test_protocol_negotiation", "")]),
    ] {
        let mut session = Blocking::login(&server, protocol, options);
        let newest = if major < 18 { ProtocolVersion::V3_0 } else { ProtocolVersion::V3_2 };
        let expect = protocol.min(newest);
        assert_eq!(session.session.protocol_version(), expect, "{protocol} {options:?}");
        session.session.simple_query(Instant::now(), "SELECT 1").unwrap();
        assert_eq!(session.answer().unwrap()[0].len(), 1);
    }
}

/// The startup packet overrides `ALTER ROLE` and `options`. A later SET overrides it, and ends the session.
fn the_encoding_is_utf8_whatever_the_role_sets_and_a_change_ends_the_session(major: u32) {
    let sql = "CREATE ROLE latin LOGIN; ALTER ROLE latin SET client_encoding = 'LATIN1'";
    let server = Server::with(|builder| {
        builder.init_sql(sql).installation(crate::support::installation(major))
    });
    run(async {
        let url = server.cluster.url("latin", None, "postgres");
        for url in [url.clone(), format!("{url}?options=-c%20client_encoding%3DLATIN1")] {
            let mut connection = Connection::connect(&*url).await.unwrap();
            assert_eq!(connection.parameter("client_encoding"), Some("UTF8"), "{url}");
            assert_eq!(value(&mut connection, "SHOW client_encoding").await, "UTF8", "{url}");
            connection.listen("é").await.unwrap();
            let error = connection.simple_query("SET client_encoding = 'SJIS'").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
            assert!(format!("{error:#}").contains("client_encoding is SJIS"), "{error}");
            let error = connection.recv_batch().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("a SET")), "{error}");
        }
    });
}

/// Without the last byte no notification is sent.
fn a_notification_is_committed_by_the_last_byte_of_its_sync(major: u32) {
    let server = Server::of(major);
    run(async {
        let mut listener = server.listener(&["a"]).await;
        let mut watch = server.connection().await;
        for missing in [5, 1, 0] {
            let mut session = Blocking::login(&server, ProtocolVersion::V3_0, &[]);
            session.session.notify(Instant::now(), "a", &format!("but for {missing}")).unwrap();
            session.close_before_last(missing, &mut watch).await;
        }
        assert_eq!(next(&mut listener).await.payload(), "but for 0");
    });
}

/// A COMMIT with Parse, Bind and Execute takes effect even if the server never reads a Sync.
fn a_query_is_executed_at_its_last_byte_and_a_commit_before_its_sync(major: u32) {
    let server = Server::of(major);
    run(async {
        let mut watch = server.connection().await;
        watch.simple_query("CREATE TABLE t (how text)").await.unwrap();
        for (is_bound, missing) in [(false, 1), (false, 0), (true, 6), (true, 5)] {
            let mut session = Blocking::login(&server, ProtocolVersion::V3_0, &[]);
            let sql = format!("BEGIN; INSERT INTO t VALUES ('{is_bound} {missing}')");
            session.session.simple_query(Instant::now(), &sql).unwrap();
            session.answer().unwrap();
            match is_bound {
                false => session.session.simple_query(Instant::now(), "COMMIT").unwrap(),
                true => session.session.query(Instant::now(), "COMMIT", &[]).unwrap(),
            };
            session.close_before_last(missing, &mut watch).await;
        }
        let found = value(&mut watch, "SELECT string_agg(how, ', ') FROM t").await;
        assert_eq!(found, "false 0, true 5");
    });
}
