//! [`Notifier`]: the notifier of threads.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::background::{BLOCKED_TIMEOUT, Background, BackgroundTask};
use super::notifier_builder::NotifierBuilder;
use super::waiter::{Waiter, deadline};
use crate::config::Config;
use crate::error::Error;
use crate::notifier::NotifierStats;
use crate::proto::supervisor::State;

/// A [`Notifier`](crate::Notifier) for threads without async. `Clone + Send + Sync`; all clones share one connection and one background
/// thread.
///
/// Calls of several threads are sent together, as those of several tasks: see
/// [group commit](crate::Notifier#group-commit). It [reconnects](crate::Notifier#reconnecting).
///
/// ```no_run
/// # fn example() -> Result<(), pgbell::Error> {
/// use pgbell::blocking::Notifier;
///
/// let notifier = Notifier::connect("postgres://localhost/shop")?;
/// notifier.notify("orders", "{\"id\": 1}")?;
/// notifier.notify_many([("orders", "2"), ("stock", "3")])?;
/// notifier.close();
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Besides those of the asynchronous methods, every method that waits returns [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) where
/// it [cannot wait](crate::blocking#where-a-call-cannot-wait), and has no effect then.
///
/// # Dropping
/// The drop of the last clone ends the session when all accepted calls are answered. It waits for that for at most a second, and [inside
/// of a tokio runtime](crate::blocking#inside-of-a-tokio-runtime) not at all. [`close`](Self::close) waits longer.
#[derive(Clone)]
pub struct Notifier(Arc<Shared>);

struct Shared {
    notifier: crate::Notifier,
    background: Background,
    /// The longest time of a close, unless the background thread is blocked.
    close_timeout: Duration,
}

/// How long the close of the session takes at most, after the last answer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) fn connect(builder: crate::NotifierBuilder) -> Result<Notifier, Error> {
    // First, because it starts nothing.
    Waiter::new().check()?;
    let close_timeout = builder.answer_limit().saturating_add(CLOSE_TIMEOUT);
    let mut background = Background::start()?;
    let notifier = background.run(Box::pin(builder.connect()))?;
    background.set_task(BackgroundTask::Notifier(notifier.clone()));
    Ok(Notifier(Arc::new(Shared { notifier, background, close_timeout })))
}

impl Notifier {
    /// Connects, and starts the background thread. See [`pgbell::Notifier::connect`](crate::Notifier::connect).
    ///
    /// Blocks until the login has succeeded or failed, at most `connect_timeout`, 10 s by default.
    ///
    /// # Errors
    /// See [`NotifierBuilder::connect`].
    pub fn connect(config: impl TryInto<Config, Error: Into<Error>>) -> Result<Self, Error> {
        Self::builder(config).connect()
    }

    /// Returns a builder, to change the default settings.
    pub fn builder(config: impl TryInto<Config, Error: Into<Error>>) -> NotifierBuilder {
        NotifierBuilder::new(config)
    }

    /// Waits for a call of the asynchronous notifier.
    pub(super) fn wait<'a, T, F>(
        &'a self,
        call: impl FnOnce(&'a crate::Notifier) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.0.background.waiter().wait(call(&self.0.notifier))
    }

    /// Sends one notification, which is committed when this returns. See [`pgbell::Notifier::notify`](crate::Notifier::notify).
    ///
    /// Blocks for at most twice the [answer timeout](crate::NotifierBuilder::answer_timeout), 60 s by default.
    ///
    /// # Errors
    /// See there.
    pub fn notify(&self, channel: impl AsRef<str>, payload: impl AsRef<str>) -> Result<(), Error> {
        self.wait(|notifier| notifier.notify(channel, payload))
    }

    /// Sends one notification to a topic of a channel. See [`pgbell::Notifier::notify_topic`](crate::Notifier::notify_topic).
    ///
    /// Blocks as [`notify`](Self::notify).
    ///
    /// # Errors
    /// See there.
    pub fn notify_topic(
        &self,
        channel: impl AsRef<str>,
        topic: impl AsRef<str>,
        payload: impl AsRef<str>,
    ) -> Result<(), Error> {
        self.wait(|notifier| notifier.notify_topic(channel, topic, payload))
    }

    /// Sends notifications in one transaction. See [`pgbell::Notifier::notify_many`](crate::Notifier::notify_many).
    ///
    /// Blocks as [`notify`](Self::notify).
    ///
    /// # Errors
    /// See there.
    pub fn notify_many(
        &self,
        notifications: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>,
    ) -> Result<u64, Error> {
        self.wait(|notifier| notifier.notify_many(notifications))
    }

    /// Wakes the consumers of a channel, outside of any transaction. See [`pgbell::Notifier::nudge`](crate::Notifier::nudge).
    ///
    /// It does not block. In a process that was forked since, it does nothing, and [`last_nudge_error`](Self::last_nudge_error) says so.
    pub fn nudge(&self, channel: &str, key: &str) {
        if !self.0.background.waiter().is_in_fork() {
            self.0.notifier.nudge(channel, key);
        }
    }

    /// See [`pgbell::Notifier::last_nudge_error`](crate::Notifier::last_nudge_error). In a process that was forked since,
    /// [`ErrorKind::Misuse`](crate::ErrorKind::Misuse).
    #[must_use]
    pub fn last_nudge_error(&self) -> Option<Error> {
        let refusal = self.0.background.waiter().check_process().err();
        refusal.or_else(|| self.0.notifier.last_nudge_error())
    }

    /// Waits for the answers to all accepted calls and nudges, and ends the sessions. See [`pgbell::Notifier::close`](crate::Notifier::close).
    ///
    /// Blocks for at most the [answer timeout](crate::NotifierBuilder::answer_timeout) and one second, 31 s by default, and for up to two
    /// more seconds if code of the application blocks the background thread. Where it
    /// [cannot wait](crate::blocking#where-a-call-cannot-wait), the session ends in the background. In a process that was forked since, it
    /// does nothing.
    pub fn close(self) {
        let Shared { notifier, background, close_timeout } = &*self.0;
        if !background.waiter().is_in_fork() {
            // The close begins with this call, not when it is polled.
            let closing = notifier.clone().close();
            let until = deadline(close_timeout.saturating_add(BLOCKED_TIMEOUT));
            background.waiter().wait_end(until, closing);
        }
    }

    /// See [`pgbell::Notifier::process_id`](crate::Notifier::process_id).
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.0.notifier.process_id()
    }

    /// See [`pgbell::Notifier::state`](crate::Notifier::state).
    #[must_use]
    pub fn state(&self) -> State {
        self.0.notifier.state()
    }

    /// Waits for a state. See [`pgbell::Notifier::wait_state`](crate::Notifier::wait_state).
    ///
    /// Blocks without a time limit.
    ///
    /// # Errors
    /// See there.
    pub fn wait_state(&self, state: State) -> Result<(), Error> {
        self.wait(|notifier| notifier.wait_state(state))
    }

    /// Waits for a state for this time. Returns whether the notifier is in it, or was in it since the call.
    ///
    /// Blocks for at most `timeout`.
    ///
    /// # Errors
    /// See [`wait_state`](crate::Notifier::wait_state).
    pub fn wait_state_timeout(&self, state: State, timeout: Duration) -> Result<bool, Error> {
        let waiter = self.0.background.waiter();
        Ok(waiter.wait_timeout(timeout, self.0.notifier.wait_state(state))?.is_some())
    }

    /// See [`pgbell::Notifier::stats`](crate::Notifier::stats).
    #[must_use]
    pub fn stats(&self) -> NotifierStats {
        self.0.notifier.stats()
    }

    /// See [`pgbell::Notifier::last_error`](crate::Notifier::last_error).
    #[must_use]
    pub fn last_error(&self) -> Option<Error> {
        self.0.notifier.last_error()
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.notifier.fmt(f)
    }
}
