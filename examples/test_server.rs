//! The server of `pgbell::testing` for programs in any language: prints its connection string,
//! and ends when its standard input ends.
//!
//! `cargo run --example test_server --features testing -- [trust|password|md5|scram-sha-256]`

use pgbell::testing::{Answer, Auth, BackendConfig, Server};

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let auth = match std::env::args().nth(1).as_deref() {
        None | Some("trust") => Auth::Trust,
        Some("password") => Auth::Password,
        Some("md5") => Auth::Md5,
        Some("scram-sha-256") => Auth::ScramSha256,
        Some(other) => return Err(format!("no method of authentication: {other}").into()),
    };
    let config = BackendConfig::new().auth(auth).user("alice", "pencil");
    let server = Server::start(config).await?;
    server.answer(
        "SELECT id, name FROM stock WHERE id = $1",
        Answer::rows(["id", "name"]).types([23, 25]).parameter_types([23]).row(["7", "ink"]),
    );
    println!("{}", server.url());
    let end_of_input = || std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    tokio::task::spawn_blocking(end_of_input).await??;
    Ok(())
}
