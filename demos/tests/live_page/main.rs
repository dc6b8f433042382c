//! `live_page` without a browser: its feeds, and its two endpoints over TCP.

mod clients;
mod endpoints;
mod feeds;

use std::net::{Ipv4Addr, SocketAddr};

use pgbell::Hub;
use pgbell::testing::{BackendConfig, Server};
use pgbell_demos::live_page::{CHANNEL, serve};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The page, served on a port of its own, and the server from which its notifications come.
struct Site {
    database: Server,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Site {
    async fn start() -> Self {
        let database = Server::start(BackendConfig::new()).await.unwrap();
        let hub = Hub::connect(database.url()).await.unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(hub, listener, async { drop(stopped.await) }));
        Self { database, address, stop, serving }
    }
}

fn send(database: &Server, room: &str, text: &str) {
    database.notify(CHANNEL, &format!("{room}:{text}")).unwrap();
}
