//! End-to-end delivery, with its time.

use std::time::{Duration, Instant};

use pgbell::{Config, Connection, Error, ErrorKind};
use tokio::time::timeout;

use crate::doctor::args::AllLimits;
use crate::doctor::client::Client;
use crate::doctor::delivery_channel::private_channel;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Severity};

const CHECK: &str = "delivery";

/// How many notifications are sent.
const PROBES: u32 = 5;

/// The SQLSTATE of a lock timeout.
const LOCK_TIMEOUT: &str = "55P03";

/// After this time a notification counts as lost.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(5);

pub(in crate::doctor) async fn check(
    config: &Config,
    client: &mut Client,
    facts: &Facts,
    limits: &AllLimits,
) -> Result<Vec<Finding>, Error> {
    if facts.is_standby {
        return Ok(vec![Finding::ok(CHECK, "not tried: the server is a standby")]);
    }
    let mut receiver = Connection::connect(config.clone()).await?;
    let channel = private_channel();
    if let Err(error) = receiver.listen(&channel).await {
        return match error.kind() {
            ErrorKind::Pooler => Ok(vec![Finding::new(
                CHECK,
                Severity::Critical,
                "no notification arrives through the pooler",
            )]),
            _ => Err(error),
        };
    }
    let mut times = Vec::new();
    for number in 0..PROBES {
        let payload = number.to_string();
        let begun = Instant::now();
        match client.notify(&channel, number).await {
            Err(error) if error.sqlstate() == Some(LOCK_TIMEOUT) => {
                let summary = "a NOTIFY cannot commit: it waits for the lock of other commits";
                return Ok(vec![
                    Finding::new(CHECK, Severity::Critical, summary)
                        .because(
                            "another transaction with a NOTIFY holds it until it has committed",
                        )
                        .cure("see `commit-lock`"),
                ]);
            }
            sent => sent?,
        }
        let arrived = timeout(ARRIVAL_TIMEOUT, arrival(&mut receiver, &payload)).await;
        match arrived {
            Ok(result) => result?,
            Err(_) => {
                let summary =
                    format!("a notification has not arrived after {} s", ARRIVAL_TIMEOUT.as_secs());
                return Ok(vec![Finding::new(CHECK, Severity::Critical, summary)
                    .because("the server is overloaded, or something between it and this program holds data back")]);
            }
        }
        times.push(begun.elapsed());
    }
    receiver.close().await;
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let millis = median.as_secs_f64() * 1e3;
    let finding = Finding::new(
        CHECK,
        limits.latency.severity(median),
        format!("{PROBES} notifications have arrived, in {millis:.2} ms from NOTIFY (median)"),
    );
    Ok(vec![finding.metric_with_limits(
        "delivery_seconds",
        median.as_secs_f64(),
        limits.latency.seconds(),
    )])
}

async fn arrival(receiver: &mut Connection, payload: &str) -> Result<(), Error> {
    loop {
        let batch = receiver.recv_batch().await?;
        if batch.iter().any(|notification| notification.payload() == payload) {
            return Ok(());
        }
    }
}
