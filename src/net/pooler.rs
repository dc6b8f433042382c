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
use crate::config::DeliveryProof;
use crate::session::{Evidence, SessionEvent};
use crate::supervisor::{PROOF_SQL, names_only};
use crate::{Error, ErrorKind};

/// How long it may take until a second session has sent its notification. In a pool without a free connection it
/// would wait until another client leaves.
const SECOND_SESSION_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a notification through a pooler may take. A pooler that passes it on needs milliseconds.
const ARRIVAL_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long it may take to leave the private channel after the proof has failed.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

impl Established {
    /// For a listener: proves that notifications arrive, and chooses by what that is proven later.
    pub(super) async fn choose_evidence(&mut self, until: Instant) -> Result<(), Error> {
        let proof = self.config.get_delivery_proof();
        let evidence = match proof {
            DeliveryProof::Skip => Evidence::Answer,
            DeliveryProof::Auto if !self.is_pooled => Evidence::Channels,
            DeliveryProof::Auto | DeliveryProof::Heartbeat => {
                let channel = self.enter(&mut NotListening).await?;
                if self.is_pooled {
                    self.prove(&channel, until, &mut NotListening).await?;
                }
                if proof == DeliveryProof::Auto && self.is_named_alone(&channel).await? {
                    self.leave(&channel, &mut NotListening).await?;
                    Evidence::Channels
                } else {
                    Evidence::SelfNotification(channel)
                }
            }
        };
        self.driver.session.set_evidence(evidence);
        Ok(())
    }

    /// For a connection: if a pooler stands between, proves that notifications arrive. What arrives on other channels
    /// is given to `meanwhile`.
    ///
    /// # Cancel safety
    /// The private channel stays private when the future is dropped.
    pub(crate) async fn prove_delivery(
        &mut self,
        until: Instant,
        meanwhile: &mut impl Meanwhile,
    ) -> Result<(), Error> {
        if !self.is_pooled || self.config.get_delivery_proof() == DeliveryProof::Skip {
            return Ok(());
        }
        let channel = self.enter(meanwhile).await?;
        if let Err(error) = self.prove(&channel, until, meanwhile).await {
            if self.driver.session.is_ready() {
                // The server connection may go to other clients. It need not be the one that listens.
                let until = now() + LEAVE_TIMEOUT;
                let left = timeout_at(until.into(), self.leave(&channel, meanwhile)).await;
                // It may be no answer to the UNLISTEN. The caller ends the connection then.
                if let Ok(Err(refusal)) = left
                    && self.may_report_a_drop(&refusal)
                {
                    return Err(refusal);
                }
            }
            return Err(error);
        }
        self.leave(&channel, meanwhile).await?;
        self.driver.private = None;
        self.is_pooled = false;
        Ok(())
    }

    /// Listens to a private channel, and returns its name.
    async fn enter(&mut self, meanwhile: &mut impl Meanwhile) -> Result<String, Error> {
        let channel = match &self.driver.private {
            // An earlier proof was not completed.
            Some(channel) => channel.clone(),
            None => format!("pgbell_{:032x}", u128::from_le_bytes(random()?)),
        };
        self.driver.private = Some(channel.clone());
        let id = self.driver.session.listen(now(), &[&channel])?;
        self.driver.answer(id, meanwhile).await?;
        Ok(channel)
    }

    /// Stops listening to the private channel.
    async fn leave(&mut self, channel: &str, meanwhile: &mut impl Meanwhile) -> Result<(), Error> {
        let id = self.driver.session.unlisten(now(), &[channel])?;
        self.driver.answer(id, meanwhile).await.map(drop)
    }

    fn may_report_a_drop(&self, error: &Error) -> bool {
        let session = &self.driver.session;
        session.may_report_a_drop(error, session.transaction_status())
    }

    /// Proves that what another session notifies on the private channel arrives.
    async fn prove(
        &mut self,
        channel: &str,
        until: Instant,
        meanwhile: &mut impl Meanwhile,
    ) -> Result<(), Error> {
        let deadline = until.min(now() + SECOND_SESSION_TIMEOUT);
        match self.notify_by_another(channel, deadline).await {
            Ok(()) => within(until, self.hear(meanwhile)).await,
            Err(_) if self.config.get_delivery_proof() == DeliveryProof::Heartbeat => {
                within(until, self.hear_itself(channel, meanwhile)).await
            }
            Err(error) => Err(error),
        }
    }

    /// Has a second session notify the private channel. It is closed afterwards.
    async fn notify_by_another(&self, channel: &str, deadline: Instant) -> Result<(), Error> {
        let begin = now();
        let notify = async {
            let mut other = again(&self.config, &self.place, deadline).await?;
            let id = other.session.notify(now(), channel, "")?;
            other.answer(id, &mut NotListening).await?;
            // Not waited for: the pool may be small, and the proof is what counts.
            tokio::spawn(other.close());
            Ok(())
        };
        match timeout_at(deadline.into(), notify).await {
            Ok(notified) => notified.map_err(alone),
            Err(_) => Err(waited_in_vain(now().saturating_duration_since(begin))),
        }
    }

    async fn hear(&mut self, meanwhile: &mut impl Meanwhile) -> Result<(), Error> {
        loop {
            match self.driver.step().await? {
                Step::Private => return Ok(()),
                step => self.driver.hand_on(step, meanwhile),
            }
        }
    }

    /// The session notifies the private channel itself. The notification may come ahead of the answer. N145.
    async fn hear_itself(
        &mut self,
        channel: &str,
        meanwhile: &mut impl Meanwhile,
    ) -> Result<(), Error> {
        let notify = self.driver.session.notify(now(), channel, "")?;
        let (mut is_answered, mut is_heard) = (false, false);
        while !(is_answered && is_heard) {
            match self.driver.step().await? {
                Step::Private => is_heard = true,
                Step::Event(SessionEvent::Done { id, result, .. }) if id == notify => {
                    result.map_err(|error| self.driver.cause(error))?;
                    is_answered = true;
                }
                step => self.driver.hand_on(step, meanwhile),
            }
        }
        Ok(())
    }

    /// Whether the server says that the session listens to the channel and to no other. Behind a proxy that listens in
    /// place of its clients it names nothing, and a session that a pooler did not reset may listen to any number of
    /// channels: a heartbeat that compares the channels would fail. What cannot be asked is not so. N167.
    async fn is_named_alone(&mut self, channel: &str) -> Result<bool, Error> {
        match self.driver.query(PROOF_SQL).await {
            Ok(results) => Ok(names_only(channel, &results)),
            // Refused.
            Err(_) if self.driver.session.is_ready() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Waits for a notification that was committed.
async fn within(
    until: Instant,
    arrival: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    let patience = now() + ARRIVAL_TIMEOUT;
    match timeout_at(until.min(patience).into(), arrival).await {
        Ok(heard) => heard,
        Err(_) if until < patience => {
            let message =
                "waited too long for the notification that proves delivery through a pooler";
            Err(Error::new(ErrorKind::Timeout, message))
        }
        Err(_) => Err(swallowed()),
    }
}

const ALONE: &str = "a pooler or a proxy stands before the server, and whether notifications come through it is not \
    known, because a second session could not be had";

const ALONE_HINT: &str = "give the pool one more connection, or say with Config::delivery_proof how far the pooler is \
    to be trusted";

#[cold]
fn alone(cause: Error) -> Error {
    let is_transient = cause.is_transient();
    let error = Error::caused(ErrorKind::Pooler, ALONE, cause).with_hint(ALONE_HINT);
    if is_transient { error.passing() } else { error }
}

#[cold]
fn waited_in_vain(waited: Duration) -> Error {
    let message = format!("{ALONE} within {waited:.1?}: it seems that the pool has no free slot");
    // A slot becomes free when another client leaves.
    Error::new(ErrorKind::Pooler, message).with_hint(ALONE_HINT).passing()
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
         (PgBouncer, port 6543 of Supavisor, names with -pooler) nothing can be listened to; a server that \
         shares one session among its clients (PGlite's socket server) takes one client only",
    )
}
