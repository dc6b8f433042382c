//! Lines on stderr during an outage.

use std::convert::Infallible;
use std::future::pending;
use std::time::{Duration, Instant};

use pgbell::{ListenerHandle, State};

use crate::console;
use crate::numbers::seconds;

/// The time between two checks whether attempts fail for a new reason.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Prints a line when the session is lost, when attempts to connect fail for a new reason, and when the next session is
/// live. Never completes.
pub(crate) async fn report(handle: ListenerHandle) -> Infallible {
    loop {
        if handle.wait_state(State::Reconnecting).await.is_err() {
            // The listener has ended: its cause is printed at the end of the program.
            return pending().await;
        }
        let since = Instant::now();
        let mut reason = last_error(&handle);
        console::line(&format!("pgbell: session lost: {reason}; connecting again"));
        let mut restored = std::pin::pin!(handle.wait_state(State::Connected));
        loop {
            match tokio::time::timeout(CHECK_INTERVAL, &mut restored).await {
                Ok(Ok(())) => break,
                Ok(Err(_)) => return pending().await,
                Err(_) => {}
            }
            let current = last_error(&handle);
            if current != reason {
                console::line(&format!("pgbell: still connecting: {current}"));
                reason = current;
            }
        }
        console::line(&format!("pgbell: session restored after {}", seconds(since.elapsed())));
    }
}

fn last_error(handle: &ListenerHandle) -> String {
    handle
        .last_error()
        .map_or_else(|| "the reason is unknown".to_owned(), |error| format!("{error:#}"))
}
