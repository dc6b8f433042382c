//! [`Demo`]: a server without PostgreSQL, a writer, and a lost session now and then.

use std::time::Duration;

use pgbell::testing::{BackendConfig, Server};
use pgbell::{HubHandle, Notifier};
use pgbell_demos::live_page::CHANNEL;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::Failure;

/// The time between two messages.
const INTERVAL: Duration = Duration::from_secs(1);

/// The number of messages between two lost sessions.
const MESSAGES: u64 = 15;

pub(crate) struct Demo(Server);

impl Demo {
    pub(crate) async fn start() -> Result<Self, Failure> {
        Ok(Self(Server::start(BackendConfig::new()).await?))
    }

    pub(crate) fn url(&self) -> String {
        self.0.url()
    }

    /// Writes to the room `lobby` until the result is dropped.
    pub(crate) async fn write(self, hub: HubHandle) -> Result<JoinSet<()>, Failure> {
        let notifier = Notifier::connect(self.url()).await?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut ticks = interval(INTERVAL);
            for number in 1_u64.. {
                ticks.tick().await;
                if notifier
                    .notify_topic(CHANNEL, "lobby", format!("message {number}"))
                    .await
                    .is_err()
                {
                    return;
                }
                if let Some(process_id) = hub.process_id().filter(|_| number % MESSAGES == 0) {
                    self.0.terminate(process_id);
                }
            }
        });
        Ok(task)
    }
}
