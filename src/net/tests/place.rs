//! The place of a session, to which a second one can be opened.

use std::time::Duration;

use tokio::net::TcpListener;

use crate::Config;
use crate::net::establish::{Place, again};
use crate::net::now;

/// The name of the server may have other addresses by then, or none.
#[tokio::test]
async fn a_second_session_goes_to_the_address_of_the_first() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = "host=nowhere.invalid user=bob sslmode=disable";
    let config: Config = text.parse().unwrap();
    let server = config.servers().unwrap().remove(0);
    let place = Place::tcp(server, listener.local_addr().unwrap());
    let deadline = now() + Duration::from_secs(20);
    tokio::select! {
        accepted = listener.accept() => drop(accepted.unwrap()),
        tried = again(&config, &place, deadline) => panic!("{tried:?}"),
    }
}
