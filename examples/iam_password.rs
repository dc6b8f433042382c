//! Ends by itself. Passwords that expire, such as the tokens of a cloud: a function returns a new one for every attempt to log in.
//!
//! `cargo run --example iam_password --features testing`
//!
//! The first request for a token of the second session fails here, as an identity service can. The listener tries again.
//!
//! For Amazon RDS, the body of `token` signs with the AWS SDK: `aws_sdk_rds::auth_token::AuthTokenGenerator`, with the host, the port and the user of
//! the request. Such a server asks for the token as a password in clear, so the connection needs
//! `sslmode=verify-full&sslrootcert=/path/global-bundle.pem`. Cloud SQL and Azure work in the same way, with the access token of the service account.
//! (Not tried here.)

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pgbell::testing::{Auth, BackendConfig, Server};
use pgbell::{Config, Event, Listener, PasswordRequest};

/// What would be the client of an identity service.
#[derive(Clone, Default)]
struct Identity {
    requests: Arc<AtomicU32>,
}

impl Identity {
    /// Returns a token for one login. It is not stored by pgbell, and never printed.
    #[allow(clippy::print_stdout)]
    async fn token(self, login: PasswordRequest) -> Result<String, std::io::Error> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        println!("request {number} for {} at {}", login.user(), login.host());
        match number {
            2 => Err(std::io::Error::other("the identity service is not available")),
            _ => Ok("pl4nted token".to_owned()),
        }
    }
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = BackendConfig::new().auth(Auth::ScramSha256).user("app", "pl4nted token");
    let server = Server::start(config).await?;

    let identity = Identity::default();
    let config: Config = server.url().parse()?;
    let config = config.password_provider(move |login| identity.clone().token(login));
    let mut listener = Listener::builder(config)
        .channels(["orders"])
        .backoff(Duration::from_millis(1), Duration::from_millis(10))
        .connect()
        .await?;
    println!("connected");

    server.terminate_all();
    if let Event::Gap(gap) = listener.recv().await? {
        println!("connected again after {} attempts", gap.attempts());
    }
    if let Some(error) = listener.last_error() {
        println!("the last failure: {error:#}");
    }
    listener.close().await;
    server.stop().await;
    Ok(())
}
