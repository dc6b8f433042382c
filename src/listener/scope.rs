//! [`ListenScope`]: listens to channels until it is dropped.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};
use tokio::sync::oneshot;

use super::Listener;
use crate::error::Error;
use crate::notification::{Batch, Event};
#[cfg(feature = "json")]
use crate::notification::{JsonStream, TryRecv};
use crate::proto::supervisor::{Listening, Reply};

/// The answer to the UNLISTEN of a scope that was dropped.
pub(super) type Leaving = oneshot::Receiver<Result<Reply, Error>>;

/// A listener that also listens to the channels of a scope, until the scope is left. Made by [`Listener::scope`].
///
/// It receives everything that its listener receives: also what was in the queue before, and notifications of channels that the listener
/// listened to before. Those channels stay when the scope is left, also if they are named for the scope.
///
/// # Leaving
/// [`leave`](Self::leave) returns when the server has confirmed UNLISTEN: no notification arrives that is committed later. The drop of a scope
/// sends UNLISTEN and does not wait, even if the [command queue](crate::ListenerHandle#the-command-queue) is full. If there is no session, the
/// next one does not listen to the channels.
///
/// After both, the queue of the listener can still contain notifications of the channels: those that were committed before the server has
/// carried out UNLISTEN, and that the scope has not received. The listener then delivers them, in their order, with the losses between them:
/// nothing is removed from the queue. A consumer that does not need them compares [`channel`](crate::Notification::channel).
///
/// # Other calls of `listen`
/// A scope does not count the calls that name its channels. What a call of [`listen`](crate::ListenerHandle::listen) through a
/// [handle](Listener::handle), for a channel of the scope, leaves behind depends on its place:
///
/// - If it had returned `Active` or `Pending` before the scope was entered, the channel stays.
/// - If it was unanswered then, or was made during the scope, the channel is left with the scope: UNLISTEN follows its LISTEN. This is so even if
///   the call has returned `Active`, or returns it after the scope was left.
/// - If it waits for room in the command queue, its LISTEN follows the UNLISTEN of a drop, which overtakes it, and the channel stays.
///   `leave` does not overtake it: it waits for room behind the call, and the channel is left.
/// - If it is made after the scope was left, the channel stays.
///
/// A channel that must stay is not named for a scope, or is listened to again after it.
///
/// ```no_run
/// # async fn example(mut listener: pgbell::Listener) -> Result<(), pgbell::Error> {
/// use std::time::Duration;
///
/// // Cancelled after a minute: the listener stops listening to the channel.
/// let answer = tokio::time::timeout(Duration::from_secs(60), async {
///     let mut scope = listener.scope(["answers"]).await?;
///     scope.recv().await
/// });
/// if let Ok(event) = answer.await {
///     println!("{}", event?);
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it stops listening to its channels"]
pub struct ListenScope<'a> {
    listener: &'a mut Listener,
    channels: BTreeSet<Arc<str>>,
    /// The channels that are left with the scope. Empty after that.
    own: Vec<Arc<str>>,
    listening: Listening,
}

impl<'a> ListenScope<'a> {
    /// Listens to channels. When the future is dropped, the scope is dropped with it.
    pub(super) async fn enter(
        listener: &'a mut Listener,
        channels: BTreeSet<Arc<str>>,
    ) -> Result<Self, Error> {
        // Without its answer, the channels of the last scope count as wanted.
        if let Some(leaving) = &mut listener.leaving {
            let _ = leaving.await;
            listener.leaving = None;
        }
        let before = listener.running.handle.channels().await?;
        let before: BTreeSet<_> = before.iter().map(|(channel, _)| &**channel).collect();
        let own = channels.iter().filter(|channel| !before.contains(&***channel));
        let own = own.cloned().collect();
        let mut scope = Self { listener, channels, own, listening: Listening::Pending };
        scope.listening = scope.listener.listen_all(&scope.channels).await?;
        Ok(scope)
    }

    /// Returns the channels of the scope, sorted, each once.
    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().map(|channel| &**channel)
    }

    /// Returns whether the server had confirmed LISTEN when the scope was entered. See [`Listener::listen`].
    #[must_use]
    pub fn listening(&self) -> Listening {
        self.listening
    }

    /// Returns the listener that it receives from.
    #[cfg(feature = "blocking")]
    pub(crate) fn listener(&mut self) -> &mut Listener {
        self.listener
    }

    /// See [`Listener::recv`].
    ///
    /// # Errors
    /// See there.
    ///
    /// # Cancel safety
    /// A dropped future loses nothing.
    #[inline(always)]
    pub fn recv(&mut self) -> impl Future<Output = Result<Event, Error>> + Send {
        self.listener.recv()
    }

    /// See [`Listener::poll_recv`].
    ///
    /// # Errors
    /// See [`Listener::recv`].
    #[inline(always)]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        self.listener.poll_recv(cx)
    }

    /// See [`Listener::try_recv`].
    ///
    /// # Errors
    /// See [`Listener::recv`].
    pub fn try_recv(&mut self) -> Result<Option<Event>, Error> {
        self.listener.try_recv()
    }

    /// See [`Listener::recv_batch`].
    ///
    /// # Errors
    /// See [`Listener::recv`].
    ///
    /// # Cancel safety
    /// A dropped future loses nothing. A batch that was returned counts as delivered.
    pub async fn recv_batch(&mut self) -> Result<Batch<'_>, Error> {
        self.listener.recv_batch().await
    }

    /// See [`Listener::recv_batch_max`].
    ///
    /// # Errors
    /// See [`Listener::recv`].
    ///
    /// # Cancel safety
    /// A dropped future loses nothing. A batch that was returned counts as delivered.
    pub async fn recv_batch_max(&mut self, max: usize) -> Result<Batch<'_>, Error> {
        self.listener.recv_batch_max(max).await
    }

    /// See [`Listener::json`]. [`into_inner`](JsonStream::into_inner) returns the scope, to [leave](Self::leave) it.
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    #[must_use = "dropping it stops listening to the channels of the scope"]
    pub fn json<T>(self) -> JsonStream<Self, T> {
        JsonStream::new(self)
    }

    /// Stops listening to the channels of the scope, and waits for the server. See [Leaving](Self#leaving).
    ///
    /// # Errors
    /// As [`Listener::unlisten`].
    ///
    /// # Cancel safety
    /// The listener stops listening even if the future is dropped.
    pub async fn leave(mut self) -> Result<(), Error> {
        if self.own.is_empty() {
            return Ok(());
        }
        let left = self.listener.running.handle.unlisten_many(&self.own).await;
        self.own.clear();
        left
    }
}

impl Drop for ListenScope<'_> {
    fn drop(&mut self) {
        if !self.own.is_empty() {
            self.listener.leaving = Some(self.listener.running.handle.leave(&self.own));
        }
    }
}

#[cfg(feature = "json")]
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
impl TryRecv for ListenScope<'_> {
    fn try_recv(&mut self) -> Result<Option<Event>, Error> {
        self.try_recv()
    }
}

impl Stream for ListenScope<'_> {
    type Item = Result<Event, Error>;

    /// Ends as the stream of a [`Listener`].
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.get_mut().listener).poll_next(cx)
    }
}

impl FusedStream for ListenScope<'_> {
    fn is_terminated(&self) -> bool {
        self.listener.is_terminated()
    }
}

impl fmt::Debug for ListenScope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenScope")
            .field("channels", &self.channels)
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}
