//! [`WakeupsBuilder`]: the settings of wake-ups.

use std::collections::BTreeSet;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Wakeups;
use super::automatic::{FirstResult, begin_listening, start};
use super::listen::Listen;
use super::proof::Proof;
use super::shared::{ListeningSession, WakeupsShared};
use super::task::WakeTask;
use super::telemetry;
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::listener::ListenerBuilder;
use crate::net;
use crate::proto::supervisor::{Overflow, Owner, Reconnect};

/// The settings of wake-ups. Made by [`Wakeups::builder`].
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// use std::time::Duration;
/// use pgbell::{Listen, WakeTask, Wakeups};
///
/// let wakeups = Wakeups::builder("postgres://localhost/shop")
///     .task(WakeTask::new("mail").channel("mail").interval(Duration::from_secs(5)))
///     .listen(Listen::Automatic)
///     .backoff(Duration::from_millis(100), Duration::from_secs(10))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing happens before connect"]
pub struct WakeupsBuilder {
    listener: ListenerBuilder,
    tasks: Vec<WakeTask>,
    listen: Listen,
    backoff: (Duration, Duration),
}

impl WakeupsBuilder {
    pub(super) fn new(config: Result<Config, Error>) -> Self {
        let Reconnect { min, max, .. } = Reconnect::default();
        let listener =
            ListenerBuilder::new(config).owner(Owner::Wakeups).overflow(Overflow::DropNewest);
        Self {
            // A worker polls meanwhile, so there is no reason to give up.
            listener: listener.retry_refusals(true),
            tasks: Vec::new(),
            listen: Listen::default(),
            backoff: (min, max),
        }
    }

    /// Changes a setting that wake-ups have in common with a listener.
    fn with(mut self, change: impl FnOnce(ListenerBuilder) -> ListenerBuilder) -> Self {
        self.listener = change(self.listener);
        self
    }

    /// Adds a task. There must be at least one, and no two may have the same name.
    pub fn task(mut self, task: WakeTask) -> Self {
        self.tasks.push(task);
        self
    }

    /// Sets whether notifications are used, by default [`Listen::Enabled`].
    pub fn listen(mut self, listen: Listen) -> Self {
        self.listen = listen;
        self
    }

    /// Sets the shortest and the longest delay before an attempt to listen again, by default 50 ms and 30 s. See
    /// [`ListenerBuilder::backoff`].
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff = (min, max);
        self.with(|listener| listener.backoff(min, max))
    }

    /// Sets how long [`connect`](Self::connect) tries again, with [`Listen::Enabled`]. See [`ListenerBuilder::retry_first_connect`]. Refusals, such
    /// as a wrong password, are tried again too.
    pub fn retry_first_connect(self, limit: Duration) -> Self {
        self.with(|listener| listener.retry_first_connect(limit))
    }

    /// See [`ListenerBuilder::heartbeat`].
    pub fn heartbeat(self, interval: Duration, timeout: Duration) -> Self {
        self.with(|listener| listener.heartbeat(interval, timeout))
    }

    /// See [`ListenerBuilder::max_lifetime`].
    pub fn max_lifetime(self, lifetime: Duration) -> Self {
        self.with(|listener| listener.max_lifetime(lifetime))
    }

    /// Sets the longest time in which [`close`](Wakeups::close) ends the session, by default a second.
    pub fn close_timeout(self, timeout: Duration) -> Self {
        self.with(|listener| listener.close_timeout(timeout))
    }

    /// Connects and listens to the channels of all tasks.
    ///
    /// With [`Listen::Automatic`] it waits for the first attempt, and succeeds in any case if the settings are valid. With
    /// [`Listen::Disabled`] it only checks the settings.
    ///
    /// # Errors
    /// - [`ErrorKind::Config`] for settings that are not valid: no task, two tasks with the same name, an interval or a batch size of zero, or no
    ///   channel although there is to be a listening session.
    /// - [`ErrorKind::Misuse`] for a channel that is empty, longer than 63 bytes, or contains a NUL.
    /// - With [`Listen::Enabled`] the error of the first attempt, as [`ListenerBuilder::connect`].
    ///
    /// # Panics
    /// Outside of a tokio runtime, and in a runtime without timers or without I/O: use `#[tokio::main]`, or `enable_all` of the
    /// runtime's [`Builder`](tokio::runtime::Builder).
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect(self) -> Result<Wakeups, Error> {
        net::check_runtime();
        let Self { listener, tasks, listen, backoff } = self;
        let channels = check(&tasks, listen)?;
        let (task_count, channel_count) = (tasks.len(), channels.len());
        let listener = listener.channels(channels);
        let shared = Arc::new(WakeupsShared::new(tasks));
        if listen == Listen::Disabled {
            // The settings only.
            Box::pin(listener.clone().prepare()).await?;
        }
        telemetry::configured(task_count, channel_count, listen);
        let mut wakeups = Wakeups::new(shared.clone());
        match listen {
            Listen::Disabled => shared.set_session(ListeningSession::Disabled),
            Listen::Enabled => {
                let attempt = |one: ListenerBuilder| -> Pin<Box<dyn Future<Output = _> + Send>> {
                    Box::pin(start(one, shared.clone(), None))
                };
                let running = listener.connect_by(attempt).await?;
                shared.set_session(ListeningSession::Running(running));
            }
            Listen::Automatic => {
                let proof = Arc::new(Proof::new()?);
                let hook = proof.clone();
                let listener = listener.channels([proof.channel()]).on_live(move |other, _| {
                    let proof = hook.clone();
                    async move { proof.run(other).await }
                });
                let (sender, first) = oneshot::channel();
                let sender = FirstResult::new(sender);
                // All attempts are one of `connect_by`, which prepares the password provider once.
                let listener = listener.retry_first_connect(Duration::ZERO);
                wakeups.attempts = Some(tokio::spawn(listener.connect_by(move |one| {
                    let (shared, proof) = (shared.clone(), proof.clone());
                    Box::pin(begin_listening(one, shared, proof, backoff, sender.clone()))
                })));
                first.await.unwrap_or_else(|_| {
                    Err(Error::new(ErrorKind::Other, "the first attempt to listen panicked"))
                })?;
            }
        }
        Ok(wakeups)
    }
}

/// Checks the tasks, and returns their channels.
fn check(tasks: &[WakeTask], listen: Listen) -> Result<BTreeSet<String>, Error> {
    let refuse = |message: String| Err(Error::new(ErrorKind::Config, message));
    if tasks.is_empty() {
        return refuse("there is no task to wake".to_owned());
    }
    let (mut names, mut channels) = (BTreeSet::new(), BTreeSet::new());
    for task in tasks {
        task.check()?;
        if !names.insert(task.name()) {
            return refuse(format!("two tasks have the name {:?}", task.name()));
        }
        channels.extend(task.channel_names().map(str::to_owned));
    }
    if channels.is_empty() && listen != Listen::Disabled {
        return refuse("no task has a channel to listen to: use Listen::Disabled".to_owned());
    }
    Ok(channels)
}

/// A builder can be awaited: that is [`connect`](WakeupsBuilder::connect).
impl IntoFuture for WakeupsBuilder {
    type Output = Result<Wakeups, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.connect())
    }
}
