//! Whether notifications come through a pooler.
//!
//! PgBouncer in transaction mode takes LISTEN without an error and runs it on a server connection that
//! belongs to another client the next moment: nothing ever arrives. The session cannot see that by itself,
//! so another session notifies it. N91.

use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::driver::{Meanwhile, NotListening, Step};
use super::establish::{Established, again};
use super::{now, random};
use crate::{Error, ErrorKind};

/// How long a notification through a pooler may take. A pooler that passes it on needs milliseconds.
const PROOF_TIMEOUT: Duration = Duration::from_secs(3);

/// How long it may take to leave the private channel after the proof has failed.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

impl Established {
    /// If a pooler stands between: listens to a private channel and has another session notify it. What arrives
    /// on other channels is given to `meanwhile`.
    ///
    /// # Cancel safety
    /// The private channel stays private when the future is dropped.
    pub(crate) async fn prove_delivery(
        &mut self,
        until: Instant,
        meanwhile: &mut impl Meanwhile,
    ) -> Result<(), Error> {
        if !self.is_pooled {
            return Ok(());
        }
        let until = until.min(now() + PROOF_TIMEOUT);
        let channel = match &self.driver.private {
            // An earlier proof was not completed.
            Some(channel) => channel.clone(),
            None => format!("pgbell_{:032x}", u128::from_le_bytes(random()?)),
        };
        self.driver.private = Some(channel.clone());
        let id = self.driver.session.listen(now(), &[&channel])?;
        self.driver.answer(id, meanwhile).await?;
        let heard = match timeout_at(until.into(), self.hear(&channel, until, meanwhile)).await {
            Ok(heard) => heard,
            Err(_) => Err(swallowed()),
        };
        if heard.is_err() && self.driver.session.is_ready() {
            // The server connection may go to other clients. It need not be the one that listens.
            let until = now() + LEAVE_TIMEOUT;
            let _ = timeout_at(until.into(), self.leave(&channel, meanwhile)).await;
        }
        heard?;
        self.leave(&channel, meanwhile).await?;
        self.driver.private = None;
        self.is_pooled = false;
        Ok(())
    }

    async fn hear(
        &mut self,
        channel: &str,
        until: Instant,
        meanwhile: &mut impl Meanwhile,
    ) -> Result<(), Error> {
        let mut other = again(&self.config, &self.place.server, until).await.map_err(|error| {
            let message = "a pooler stands before the server, and whether notifications come through \
                cannot be tried without a second connection";
            Error::caused(ErrorKind::Pooler, message, error)
        })?;
        let id = other.session.notify(now(), channel, "")?;
        other.answer(id, &mut NotListening).await?;
        // Not waited for: the pool may be small, and the proof is what counts.
        tokio::spawn(other.close());
        loop {
            match self.driver.step().await? {
                Step::Private => return Ok(()),
                step => self.driver.hand_on(step, meanwhile),
            }
        }
    }

    /// Stops listening to the private channel.
    async fn leave(&mut self, channel: &str, meanwhile: &mut impl Meanwhile) -> Result<(), Error> {
        let id = self.driver.session.unlisten(now(), &[channel])?;
        self.driver.answer(id, meanwhile).await.map(drop)
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
