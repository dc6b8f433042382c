//! The delivery proof: the check that notifications arrive through a pooler.
//!
//! PgBouncer in transaction mode accepts LISTEN without an error and runs it on a server session that
//! other clients use afterwards: no notification ever arrives. The session cannot detect that by itself,
//! so a second session notifies it.
// N91.

use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::driver::{DriverEvent, NotListening, NotificationSink};
use super::establish::{Established, open_second_session};
use super::{now, random};
use crate::config::DeliveryProof;
use crate::error::{Error, ErrorKind};
use crate::proto::session::{Evidence, SessionEvent};
use crate::proto::supervisor::{HEARTBEAT_SQL, names_only};

/// The timeout for a second session to send its notification. If the pool has no free connection, it
/// would wait until another client disconnects.
const SECOND_SESSION_TIMEOUT: Duration = Duration::from_secs(3);

/// The timeout for the notification to arrive. A pooler that forwards it needs milliseconds.
const ARRIVAL_TIMEOUT: Duration = Duration::from_millis(1_500);

/// The timeout of UNLISTEN on the private channel after the proof has failed.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

impl Established {
    /// Runs the delivery proof of a listener if it is needed, and chooses the kind of heartbeat.
    pub(super) async fn choose_evidence(&mut self, until: Instant) -> Result<(), Error> {
        let proof = self.config.get_delivery_proof();
        let evidence = match proof {
            DeliveryProof::Skip => Evidence::Answer,
            DeliveryProof::Auto if !self.is_pooled => Evidence::Channels,
            DeliveryProof::Auto | DeliveryProof::Heartbeat => {
                let channel = self.listen_privately(&mut NotListening).await?;
                if self.is_pooled {
                    self.prove(&channel, until, &mut NotListening).await?;
                }
                if proof == DeliveryProof::Auto && self.is_named_alone(&channel).await? {
                    self.unlisten_privately(&channel, &mut NotListening).await?;
                    Evidence::Channels
                } else {
                    Evidence::SelfNotification(channel)
                }
            }
        };
        self.driver.session.set_evidence(evidence);
        Ok(())
    }

    /// Runs the delivery proof of a connection if there is a pooler. Notifications on other channels go to `sink`.
    ///
    /// # Cancel safety
    /// If the future is dropped, notifications on the private channel are still not delivered.
    pub(crate) async fn prove_delivery(
        &mut self,
        until: Instant,
        sink: &mut impl NotificationSink,
    ) -> Result<(), Error> {
        if !self.is_pooled || self.config.get_delivery_proof() == DeliveryProof::Skip {
            return Ok(());
        }
        let channel = self.listen_privately(sink).await?;
        if let Err(error) = self.prove(&channel, until, sink).await {
            if self.driver.session.is_ready() {
                // Other clients may use the server session later. It need not be the one that executed LISTEN.
                let until = now() + LEAVE_TIMEOUT;
                let left = timeout_at(until.into(), self.unlisten_privately(&channel, sink)).await;
                // The error may be a stray one, and not the answer to UNLISTEN. The caller ends the connection then.
                if let Ok(Err(refusal)) = left
                    && self.may_report_a_drop(&refusal)
                {
                    return Err(refusal);
                }
            }
            return Err(error);
        }
        self.unlisten_privately(&channel, sink).await?;
        self.driver.private = None;
        self.is_pooled = false;
        Ok(())
    }

    /// Listens to a private channel, and returns its name.
    async fn listen_privately(
        &mut self,
        sink: &mut impl NotificationSink,
    ) -> Result<String, Error> {
        let channel = match &self.driver.private {
            // The future of an earlier proof was dropped.
            Some(channel) => channel.clone(),
            None => format!("pgbell_{:032x}", u128::from_le_bytes(random()?)),
        };
        self.driver.private = Some(channel.clone());
        let id = self.driver.session.listen(now(), &[&channel])?;
        self.driver.answer(id, sink).await?;
        Ok(channel)
    }

    /// Stops listening to the private channel.
    async fn unlisten_privately(
        &mut self,
        channel: &str,
        sink: &mut impl NotificationSink,
    ) -> Result<(), Error> {
        let id = self.driver.session.unlisten(now(), &[channel])?;
        self.driver.answer(id, sink).await.map(drop)
    }

    fn may_report_a_drop(&self, error: &Error) -> bool {
        let session = &self.driver.session;
        session.may_report_a_drop(error, session.transaction_status())
    }

    /// Proves that a notification of another session on the private channel arrives.
    async fn prove(
        &mut self,
        channel: &str,
        until: Instant,
        sink: &mut impl NotificationSink,
    ) -> Result<(), Error> {
        let deadline = until.min(now() + SECOND_SESSION_TIMEOUT);
        match self.notify_by_another(channel, deadline).await {
            Ok(()) => within(until, self.wait_for_private(sink)).await,
            Err(_) if self.config.get_delivery_proof() == DeliveryProof::Heartbeat => {
                within(until, self.notify_itself(channel, sink)).await
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a notification to the private channel from a second session, and closes that session.
    async fn notify_by_another(&self, channel: &str, deadline: Instant) -> Result<(), Error> {
        let begin = now();
        let notify = async {
            let mut other = open_second_session(&self.config, &self.location, deadline).await?;
            let id = other.session.notify(now(), channel, "")?;
            other.answer(id, &mut NotListening).await?;
            // The close is not awaited: it need not succeed for the proof.
            tokio::spawn(other.close());
            Ok(())
        };
        match timeout_at(deadline.into(), notify).await {
            Ok(notified) => notified.map_err(no_second_session),
            Err(_) => Err(no_free_slot(now().saturating_duration_since(begin))),
        }
    }

    async fn wait_for_private(&mut self, sink: &mut impl NotificationSink) -> Result<(), Error> {
        loop {
            match self.driver.step().await? {
                DriverEvent::Private => return Ok(()),
                step => self.driver.pass_on(step, sink),
            }
        }
    }

    /// Sends a notification to the private channel from this session, and waits for it. It may arrive before the answer.
    // N145.
    async fn notify_itself(
        &mut self,
        channel: &str,
        sink: &mut impl NotificationSink,
    ) -> Result<(), Error> {
        let notify = self.driver.session.notify(now(), channel, "")?;
        let (mut is_answered, mut has_arrived) = (false, false);
        while !(is_answered && has_arrived) {
            match self.driver.step().await? {
                DriverEvent::Private => has_arrived = true,
                DriverEvent::Event(SessionEvent::Done { id, result, .. }) if id == notify => {
                    result.map_err(|error| self.driver.cause(error))?;
                    is_answered = true;
                }
                step => self.driver.pass_on(step, sink),
            }
        }
        Ok(())
    }

    /// Returns whether the server names this channel, and no other, as the session's channels. Behind a proxy that listens
    /// in place of its clients it names none, and a session that a pooler did not reset may have any number of
    /// channels: a heartbeat that compares the channels would fail. False if the server refuses the query.
    // N167.
    async fn is_named_alone(&mut self, channel: &str) -> Result<bool, Error> {
        match self.driver.query(HEARTBEAT_SQL).await {
            Ok(results) => Ok(names_only(channel, &results)),
            Err(_) if self.driver.session.is_ready() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Waits for a notification that was committed, with a timeout.
async fn within(
    until: Instant,
    arrival: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    let deadline = now() + ARRIVAL_TIMEOUT;
    match timeout_at(until.min(deadline).into(), arrival).await {
        Ok(arrived) => arrived,
        Err(_) if until < deadline => {
            let message =
                "waited too long for the notification that proves delivery through a pooler";
            Err(Error::new(ErrorKind::Timeout, message))
        }
        Err(_) => Err(not_delivered()),
    }
}

const NO_SECOND_SESSION: &str = "there is a pooler or a proxy before the server, and it is not known whether it \
    delivers notifications, because no second session could be opened";

const NO_SECOND_SESSION_HINT: &str = "give the pool one more connection, or choose another proof with \
    Config::delivery_proof";

#[cold]
fn no_second_session(cause: Error) -> Error {
    let is_transient = cause.is_transient();
    let error = Error::caused(ErrorKind::Pooler, NO_SECOND_SESSION, cause)
        .with_hint(NO_SECOND_SESSION_HINT);
    if is_transient { error.passing() } else { error }
}

#[cold]
fn no_free_slot(waited: Duration) -> Error {
    let message =
        format!("{NO_SECOND_SESSION} within {waited:.1?}: it seems that the pool has no free slot");
    // A slot becomes free when another client disconnects.
    Error::new(ErrorKind::Pooler, message).with_hint(NO_SECOND_SESSION_HINT).passing()
}

#[cold]
fn not_delivered() -> Error {
    Error::new(
        ErrorKind::Pooler,
        "LISTEN is accepted and no notification arrives: there is a pooler that does not keep sessions \
         before the server",
    )
    .with_hint(
        "connect directly to the server, or to a pool with pool_mode = session: in transaction mode \
         (PgBouncer, port 6543 of Supavisor, names with -pooler) LISTEN does not work; a server that \
         shares one session among its clients (PGlite's socket server) accepts one client only",
    )
}
