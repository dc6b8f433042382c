//! The second session on the server of the first.

use std::time::Duration;

use tokio::net::TcpListener;

use crate::config::Config;
use crate::net::establish::{ServerLocation, open_second_session};
use crate::net::now;

/// The name of the server may have other addresses at that time, or none.
#[tokio::test]
async fn a_second_session_goes_to_the_address_of_the_first() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = "host=nowhere.invalid user=bob sslmode=disable";
    let config: Config = text.parse().unwrap();
    let server = config.servers().unwrap().remove(0);
    let location = ServerLocation::tcp(server, listener.local_addr().unwrap());
    let deadline = now() + Duration::from_secs(20);
    tokio::select! {
        accepted = listener.accept() => drop(accepted.unwrap()),
        tried = open_second_session(&config, &location, deadline) => panic!("{tried:?}"),
    }
}
