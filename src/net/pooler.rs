//! Whether notifications come through a pooler.
//!
//! PgBouncer in transaction mode takes LISTEN without an error and runs it on a server connection that
//! belongs to somebody else the next moment: nothing ever arrives. The session cannot see that by itself,
//! so another one notifies it. N91.

use std::time::{Duration, Instant};

use bytes::Buf;
use tokio::time::timeout_at;

use super::driver::Step;
use super::establish::{Established, again};
use super::{now, random};
use crate::{Error, ErrorKind, wire};

/// How long a notification through a pooler may take. A pooler that passes it on needs milliseconds.
const PROOF_TIMEOUT: Duration = Duration::from_secs(3);

impl Established {
    /// If a pooler stands between: listens to a channel that nobody knows and has another session notify it.
    pub(crate) async fn prove_delivery(&mut self, until: Instant) -> Result<(), Error> {
        if !self.is_pooled {
            return Ok(());
        }
        let until = until.min(now() + PROOF_TIMEOUT);
        let channel = format!("pgbell_{:032x}", u128::from_le_bytes(random()?));
        let id = self.driver.session.listen(now(), &[&channel])?;
        self.driver.answer(id).await?;
        match timeout_at(until.into(), self.hear(&channel, until)).await {
            Ok(heard) => heard?,
            Err(_) => return Err(swallowed()),
        }
        let id = self.driver.session.unlisten(now(), &[&channel])?;
        self.driver.answer(id).await?;
        self.is_pooled = false;
        Ok(())
    }

    async fn hear(&mut self, channel: &str, until: Instant) -> Result<(), Error> {
        let mut other = again(&self.config, &self.place.server, until).await.map_err(|error| {
            let message = "a pooler stands before the server, and whether notifications come through \
                cannot be tried without a second connection";
            Error::caused(ErrorKind::Pooler, message, error)
        })?;
        let id = other.session.notify(now(), channel, "")?;
        other.answer(id).await?;
        // Not waited for: the pool may be small, and the proof is what counts.
        tokio::spawn(other.close());
        loop {
            if let Step::Run(run) = self.driver.step().await? {
                let frames = self.driver.input.get(..run.bytes).unwrap_or_default();
                let heard = wire::frames(frames).any(|one| one.channel == channel.as_bytes());
                self.driver.input.advance(run.bytes);
                if heard {
                    return Ok(());
                }
            }
        }
    }
}

#[cold]
fn swallowed() -> Error {
    Error::new(
        ErrorKind::Pooler,
        "LISTEN is accepted and no notification arrives: a pooler that does not keep sessions stands \
         before the server",
    )
    .with_hint(
        "connect to the server itself, or to a pool with pool_mode = session: in transaction mode \
         (PgBouncer, port 6543 of Supavisor, names with -pooler) nothing can be listened to",
    )
}
