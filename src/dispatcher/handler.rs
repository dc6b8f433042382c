//! [`Handler`]: the functions of the user, with their types erased.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use super::contained::{Outcome, contained};
use super::failure::Failure;
use super::loss::DispatchLoss;
use crate::notification::Notification;

/// The error of a handler.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// A run of a handler.
pub(crate) type RunFuture = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A function of the user.
pub(crate) type Function<T> = Box<dyn Fn(T) -> RunFuture + Send + Sync>;

/// What the future of a handler returns: nothing, or a `Result<(), E>` whose error is, or becomes, a `Box<dyn Error + Send + Sync>`.
///
/// An error makes the [`Dispatcher`](crate::Dispatcher) try again, or report a [`Failure`].
///
/// ```
/// # use pgbell::{Dispatcher, Notification};
/// let dispatcher = Dispatcher::new()
///     .on("log", |n: Notification| async move { println!("{n}") })
///     .on("numbers", |n: Notification| async move {
///         let number: u64 = n.payload().parse()?;
///         println!("{number}");
///         Ok::<_, std::num::ParseIntError>(())
///     });
/// ```
pub trait HandlerOutput: sealed::Sealed {
    /// Returns the result of the run.
    ///
    /// # Errors
    /// The error of the handler.
    fn into_result(self) -> Result<(), Box<dyn Error + Send + Sync>>;
}

impl HandlerOutput for () {
    fn into_result(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<E: Into<BoxError>> HandlerOutput for Result<(), E> {
    fn into_result(self) -> Result<(), BoxError> {
        self.map_err(Into::into)
    }
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for () {}
    impl<E> Sealed for Result<(), E> {}
}

/// Erases the types of a function.
pub(crate) fn erased<T, F, Fut>(function: F) -> Function<T>
where
    F: Fn(T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: HandlerOutput> + Send + 'static,
{
    Box::new(move |input| Box::pin(contained(function(input))))
}

/// A handler of notifications.
pub(super) enum Handler {
    /// It gets one notification in each run.
    Single(Function<Notification>),
    /// It gets at most this number of notifications in each run.
    Batch(usize, Function<Vec<Notification>>),
}

/// The handlers that belong to no lane.
#[derive(Default)]
pub(super) struct Reports {
    pub(super) loss: Option<Function<DispatchLoss>>,
    pub(super) failure: Option<Function<Failure>>,
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single(_) => f.write_str("Single"),
            Self::Batch(limit, _) => f.debug_tuple("Batch").field(limit).finish(),
        }
    }
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reports")
            .field("loss", &self.loss.is_some())
            .field("failure", &self.failure.is_some())
            .finish()
    }
}
