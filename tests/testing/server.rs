//! The backend on a real socket.

use pgbell::testing::{Auth, BackendConfig, Script, Server};
use pgbell::{Connection, ErrorKind, Notifier};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ALL: [Auth; 4] = [Auth::Trust, Auth::Password, Auth::Md5, Auth::ScramSha256];

fn url(server: &Server, password: &str) -> String {
    let url = server.url().replace("@", &format!(":{password}@"));
    // This test allows the password in clear.
    format!("{url}&require_auth=none,password,md5,scram-sha-256")
}

#[tokio::test]
async fn notifications_cross_a_socket_with_every_method_of_login() {
    for auth in ALL {
        let config = BackendConfig::new().auth(auth).user("alice", "wonder");
        let server = Server::start(config).await.unwrap();
        let mut listener = Connection::connect(&*url(&server, "wonder")).await.unwrap();
        listener.listen("orders").await.unwrap();

        let notifier = Notifier::connect(&*url(&server, "wonder")).await.unwrap();
        notifier.notify("orders", "0").await.unwrap();
        let many = (1..1_000).map(|n| ("orders", n.to_string()));
        notifier.notify_many(many).await.unwrap();

        let mut payloads = Vec::new();
        while payloads.len() < 1_000 {
            let batch = listener.recv_batch().await.unwrap();
            assert!(batch.loss().is_none());
            payloads.extend(batch.iter().map(|one| one.payload().to_owned()));
        }
        assert!(payloads.iter().enumerate().all(|(n, payload)| *payload == n.to_string()));
        let count = server.count("orders");
        assert_eq!((count.committed, count.delivered), (1_000, 1_000), "{auth:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused_on_a_socket_too() {
    for auth in &ALL[1..] {
        let config = BackendConfig::new().auth(*auth).user("alice", "wonder");
        let server = Server::start(config).await.unwrap();
        let error = Connection::connect(&*url(&server, "wonde")).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("28P01"), "{auth:?}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_exists_as_long_as_its_server() {
    let directory = std::env::temp_dir().join(format!("pgbell-testing-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let server = Server::start_in(BackendConfig::new(), &directory).await.unwrap();
    let host = directory.to_str().unwrap();
    let config = format!("host={host} port={} user=alice", server.port());
    let mut connection = Connection::connect(&*config).await.unwrap();
    connection.listen("a").await.unwrap();
    connection.notify("a", "1").await.unwrap();
    assert_eq!(connection.recv_batch().await.unwrap().len(), 1);
    server.stop().await;
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
    std::fs::remove_dir(&directory).unwrap();
}

/// E1, R1.
#[tokio::test]
async fn sessions_can_be_terminated_one_by_one_and_together() {
    let server = Server::start(BackendConfig::new()).await.unwrap();
    let mut connections = Vec::new();
    for _ in 0..3 {
        let mut connection = Connection::connect(&*server.url()).await.unwrap();
        connection.listen("a").await.unwrap();
        connections.push(connection);
    }
    assert_eq!(server.clients(), 3);
    server.terminate(connections[0].process_id().unwrap());
    let error = connections[0].recv_batch().await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("57P01"));
    connections[1].notify("a", "").await.unwrap();
    assert_eq!(connections[2].recv_batch().await.unwrap().len(), 1);
    server.terminate_all();
    for connection in &mut connections[1..] {
        while let Ok(batch) = connection.recv_batch().await {
            assert!(!batch.is_empty());
        }
    }
}

#[tokio::test]
async fn a_stopped_server_leaves_nothing() {
    let server = Server::start(BackendConfig::new()).await.unwrap();
    let url = server.url();
    let mut connection = Connection::connect(&*url).await.unwrap();
    server.stop().await;
    let error = connection.recv_batch().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    let error = Connection::connect(&*url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

/// The socket buffers some megabytes, and the backend 100 kB more; then the session ends, behind all of them.
#[tokio::test]
async fn a_client_that_does_not_read_is_ended_with_the_reason() {
    let config = BackendConfig::new().output_bytes_max(100_000);
    let server = Server::start(config).await.unwrap();
    let mut lazy = TcpStream::connect(server.address()).await.unwrap();
    lazy.write_all(b"\0\0\0\x10\0\x03\0\0user\0a\0\0Q\0\0\0\x0dLISTEN a\0").await.unwrap();
    let mut input = vec![0; 10_000];
    let mut length = 0;
    while !input[..length].ends_with(Script::ACK) {
        length += lazy.read(&mut input[length..]).await.unwrap();
    }

    let mut notifier = Connection::connect(&*server.url()).await.unwrap();
    let payload = "x".repeat(7_000);
    let mut sent = 0_u64;
    // 2^16 of them would be more than any socket buffers.
    while server.count("a").delivered == sent && sent < 1 << 16 {
        notifier.notify("a", format!("{sent} {payload}")).await.unwrap();
        sent += 1;
    }

    let mut input = Vec::new();
    lazy.read_to_end(&mut input).await.unwrap();
    let (run, _) = pgbell::proto::wire::scan(&input);
    let mut expected = 0_u64;
    for one in pgbell::proto::wire::frames(&input[..run.bytes]) {
        assert!(one.payload.starts_with(format!("{expected} x").as_bytes()));
        expected += 1;
    }
    assert_eq!(expected, server.count("a").delivered);
    let end = String::from_utf8_lossy(&input[run.bytes..]).into_owned();
    assert!(
        end.starts_with('E') && end.contains("FATAL\0C08006\0Mconnection to client lost"),
        "{end:?}"
    );
}
