//! Tests of TLS without a database, with servers of rustls and hostile servers in this process.

mod asking;
mod certificates;
mod client;
mod conversation;
mod ends;
mod handshakes;
mod hints;
mod hosts;
mod records;
mod revoked;
mod room;
mod sealer;
mod secrets;
mod server;
mod settings;
mod zoo;
