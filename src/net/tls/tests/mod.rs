//! TLS without a database: servers of rustls, and servers that lie, in this process.

mod asking;
mod certificates;
mod client;
mod conversation;
mod ends;
mod handshakes;
mod hosts;
mod records;
mod revoked;
mod room;
mod server;
mod settings;
mod zoo;
