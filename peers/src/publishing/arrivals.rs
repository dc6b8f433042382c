//! [`Arrivals`]: the consumer of what a process publishes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pgbell::{Event, Listener};
use tokio::sync::Notify;

use crate::outcome::Outcome;

/// The channel of the jobs.
pub(super) const CHANNEL: &str = "jobs";

/// The longest time from the last publication to the last arrival.
const ARRIVALS_MAX: Duration = Duration::from_secs(30);

/// A listener, and the keys that it must receive.
#[derive(Debug)]
pub(super) struct Arrivals {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// When each key was published that has not arrived.
    expected: HashMap<String, Instant>,
    delays_ms: Vec<f64>,
    failure: Option<String>,
}

impl Arrivals {
    /// Listens, in a task.
    pub(super) async fn listen(conninfo: &str) -> Outcome<Arc<Self>> {
        let builder = Listener::builder(conninfo).channels([CHANNEL]);
        let mut listener = builder.queue_capacity(1 << 18).queue_bytes(1 << 28).connect().await?;
        let arrivals = Arc::new(Self { state: Mutex::default(), changed: Notify::new() });
        let shared = arrivals.clone();
        tokio::spawn(async move {
            loop {
                let arrived = match listener.recv().await {
                    Ok(Event::Notification(one)) => shared.arrived(one.payload()),
                    Ok(loss) => Err(format!("the consumer has lost something: {loss:?}")),
                    Err(error) => Err(error.to_string()),
                };
                if let Err(why) = arrived {
                    shared.state().failure.get_or_insert(why);
                    return shared.changed.notify_one();
                }
            }
        });
        Ok(arrivals)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a key is about to be published. Each key is published once.
    pub(super) fn expect(&self, key: &str) {
        self.state().expected.insert(key.to_owned(), Instant::now());
    }

    fn arrived(&self, key: &str) -> Result<(), String> {
        let now = Instant::now();
        let mut state = self.state();
        let published = state.expected.remove(key);
        let published =
            published.ok_or_else(|| format!("{key:?} arrived, and was not expected"))?;
        state.delays_ms.push((now - published).as_secs_f64() * 1e3);
        if state.expected.is_empty() {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Waits until every key has arrived. Returns the delays, in milliseconds, from before the publication to the consumer.
    pub(super) async fn all(&self) -> Outcome<Vec<f64>> {
        let arrived = async {
            loop {
                {
                    let mut state = self.state();
                    if let Some(why) = state.failure.take() {
                        return Err(why.into());
                    }
                    if state.expected.is_empty() {
                        return Ok(std::mem::take(&mut state.delays_ms));
                    }
                }
                self.changed.notified().await;
            }
        };
        tokio::time::timeout(ARRIVALS_MAX, arrived).await.unwrap_or_else(|_| {
            Err(format!("{} keys have not arrived", self.state().expected.len()).into())
        })
    }
}
