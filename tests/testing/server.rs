//! The backend on a real socket.

use pgbell::testing::{Auth, BackendConfig, Server};
use pgbell::{Connection, Notifier};

const ALL: [Auth; 4] = [Auth::Trust, Auth::Password, Auth::Md5, Auth::ScramSha256];

fn url(server: &Server, password: &str) -> String {
    server.url().replace("@", &format!(":{password}@"))
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
            payloads.extend(batch.iter().map(|one| one.payload_str().unwrap().to_owned()));
        }
        assert!(payloads.iter().enumerate().all(|(n, payload)| *payload == n.to_string()));
        let count = server.count("orders");
        assert_eq!((count.committed, count.delivered), (1_000, 1_000), "{auth:?}");
        server.stop().await;
    }
}
