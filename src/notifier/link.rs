//! [`TaskLink`]: the session of a task of a notifier, and the attempt to open it. It carries bytes, and decides nothing.

use std::mem;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use super::nudge::NudgeSource;
use crate::config::Config;
use crate::error::Error;
use crate::net::{
    self, Cancellation, Driver, DriverEvent, Established, OpeningAttempt, SessionPurpose,
};
use crate::proto::session::{Session, SessionEvent};

/// How long the end of a link waits for a CancelRequest: as long as for the server's answer to Terminate.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// The session of a task, the attempt to open it, and how further ones are opened.
pub(super) struct TaskLink {
    stage: LinkStage,
    /// That of the last session which this link has opened.
    cancellation: Option<Cancellation>,
    /// The last CancelRequest, which may be on its way.
    cancelling: Option<JoinHandle<()>>,
    opener: SessionOpener,
}

enum LinkStage {
    None,
    Opening(OpeningAttempt),
    Open(Box<Driver>),
}

/// How sessions are opened.
#[derive(Debug, Clone)]
pub(super) struct SessionOpener {
    pub(super) config: Config,
    pub(super) purpose: SessionPurpose,
    pub(super) timeout: Duration,
}

/// What has happened on a link.
pub(super) enum LinkEvent {
    /// There is a session. It has a source if its process id is that of no other one.
    Opened {
        written: u64,
        process_id: Option<i32>,
        source: Option<NudgeSource>,
    },
    OpenFailed(Error),
    Session(SessionEvent),
    /// Notifications for another client of a pooler: the session has no LISTEN.
    Notifications,
    /// Nothing that concerns the owner.
    Other,
    Lost(Error),
}

impl TaskLink {
    pub(super) fn new(driver: Option<Driver>, opener: SessionOpener) -> Self {
        let stage = driver.map_or(LinkStage::None, |driver| LinkStage::Open(Box::new(driver)));
        Self { stage, cancellation: None, cancelling: None, opener }
    }

    /// Begins an attempt. After the timeout it fails by itself, and its error names the step that took the time.
    pub(super) fn open(&mut self) {
        let SessionOpener { config, purpose, timeout } = &self.opener;
        let until = net::now() + *timeout;
        let opening = net::establish_until(config.clone(), *purpose, until);
        self.stage = LinkStage::Opening(OpeningAttempt::start(Box::pin(opening)));
    }

    /// Drops the session, after a CancelRequest for its command was sent.
    pub(super) fn cancel_command(&mut self) {
        let stage = mem::replace(&mut self.stage, LinkStage::None);
        if let LinkStage::Open(driver) = stage
            && let Some(cancellation) = self.cancellation.take()
        {
            self.cancelling = Some(cancellation.start(driver));
        }
    }

    /// Drops the session, or the attempt.
    pub(super) fn clear(&mut self) {
        self.stage = LinkStage::None;
    }

    /// Ends the session with Terminate, if there is one, and waits until a CancelRequest was sent: its task ends with the runtime,
    /// which may end after this. Takes at most a second.
    pub(super) async fn close(self) {
        let until = tokio::time::Instant::now() + CANCEL_TIMEOUT;
        if let LinkStage::Open(driver) = self.stage {
            driver.close().await;
        }
        if let Some(cancelling) = self.cancelling {
            let _ = timeout_at(until, cancelling).await;
        }
    }

    pub(super) fn session(&mut self) -> Option<&mut Session> {
        match &mut self.stage {
            LinkStage::Open(driver) => Some(&mut driver.session),
            LinkStage::None | LinkStage::Opening(_) => None,
        }
    }

    /// Returns the number of bytes that the socket of the session has accepted.
    pub(super) fn written(&self) -> Option<u64> {
        match &self.stage {
            LinkStage::Open(driver) => Some(driver.written()),
            LinkStage::None | LinkStage::Opening(_) => None,
        }
    }

    /// Drives the session, or the attempt to open one. Ready when something has happened.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LinkEvent> {
        Poll::Ready(match &mut self.stage {
            LinkStage::None => return Poll::Pending,
            LinkStage::Opening(attempt) => match ready!(attempt.poll(cx)) {
                Ok(established) => {
                    let place = established.place().filter(|_| !established.is_pooled);
                    self.cancellation = Cancellation::of(&established);
                    let Established { driver, .. } = established;
                    let (written, process_id) = (driver.written(), driver.session.process_id());
                    let source = process_id
                        .zip(place)
                        .map(|(process_id, place)| NudgeSource { process_id, place });
                    self.stage = LinkStage::Open(Box::new(driver));
                    LinkEvent::Opened { written, process_id, source }
                }
                Err(error) => {
                    self.stage = LinkStage::None;
                    LinkEvent::OpenFailed(error)
                }
            },
            LinkStage::Open(driver) => match ready!(driver.poll_step(cx)) {
                Ok(DriverEvent::Event(event)) => LinkEvent::Session(event),
                Ok(DriverEvent::Private) => LinkEvent::Other,
                Ok(DriverEvent::Run(run)) => {
                    driver.input.advance(run.bytes);
                    LinkEvent::Notifications
                }
                Err(error) => LinkEvent::Lost(error),
            },
        })
    }
}
