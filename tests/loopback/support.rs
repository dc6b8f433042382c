use std::future::Future;
use std::time::Duration;

use pgbell::testing::{BackendConfig, Server};

/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn server() -> Server {
    Server::start(BackendConfig::new()).await.unwrap()
}

/// Fails instead of hanging.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it took too long")
}
