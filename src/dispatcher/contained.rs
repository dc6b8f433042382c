//! [`ContainedRun`]: one run of a handler, whose panics do not leave it.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use super::handler::{BoxError, HandlerOutput, RunFuture};
use crate::error;

/// How a run has ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done,
    Failed(BoxError),
    /// There was no call, and none of the same notification would succeed.
    #[cfg(feature = "json")]
    Undecodable(BoxError),
    /// The message of the panic.
    Panicked(String),
}

/// Polls a future of the user until it ends, and drops it before it returns the output. A panic is the outcome.
///
/// A panic while another one unwinds ends the process. So the poll, the drop of the future and that of the output are contained one by one.
pub(super) async fn contained<F: Future<Output: HandlerOutput>>(future: F) -> Outcome {
    let mut future = pin!(Some(future));
    poll_fn(|cx| poll_contained(future.as_mut(), cx)).await
}

/// Polls a future, and drops it when it has ended.
fn poll_contained<F>(mut future: Pin<&mut Option<F>>, cx: &mut Context<'_>) -> Poll<Outcome>
where
    F: Future<Output: HandlerOutput>,
{
    let Some(running) = future.as_mut().as_pin_mut() else { return Poll::Pending };
    let polled = match contain(|| running.poll(cx)) {
        Ok(Poll::Pending) => return Poll::Pending,
        Ok(Poll::Ready(output)) => Ok(output),
        Err(message) => Err(message),
    };
    let dropped = contain(|| future.set(None));
    Poll::Ready(match (polled, dropped) {
        (Ok(output), Ok(())) => match contain(|| output.into_result()) {
            Ok(Ok(())) => Outcome::Done,
            Ok(Err(error)) => Outcome::Failed(error),
            Err(message) => Outcome::Panicked(message),
        },
        (Err(message), _) => Outcome::Panicked(message),
        (Ok(output), Err(message)) => {
            let _ = contain(|| drop(output));
            Outcome::Panicked(message)
        }
    })
}

/// A run of a handler. A panic while the future is created, polled or dropped is its outcome.
pub(crate) struct ContainedRun {
    /// `None` after the end.
    future: Option<RunFuture>,
    /// The message of a panic while the future was created.
    panic: Option<String>,
}

impl ContainedRun {
    /// Calls a handler, which creates the future.
    pub(crate) fn new(call: impl FnOnce() -> RunFuture) -> Self {
        match contain(call) {
            Ok(future) => Self { future: Some(future), panic: None },
            Err(message) => Self { future: None, panic: Some(message) },
        }
    }

    /// Drops the future. Returns the message of a panic.
    pub(crate) fn cancel(&mut self) -> Option<String> {
        let future = self.future.take()?;
        contain(|| drop(future)).err()
    }
}

impl Future for ContainedRun {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let run = self.get_mut();
        let Some(future) = &mut run.future else {
            let message = run.panic.take().unwrap_or_default();
            return Poll::Ready(Outcome::Panicked(message));
        };
        let outcome = ready!(future.as_mut().poll(cx));
        run.future = None;
        Poll::Ready(outcome)
    }
}

/// A run that is dropped with its task, when the runtime ends, is contained too.
impl Drop for ContainedRun {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl fmt::Debug for ContainedRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContainedRun").field("has_ended", &self.future.is_none()).finish()
    }
}

/// Calls a function of the user. Returns the message of a panic.
pub(super) fn contain<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    let no_message = || "the panic has no message".to_owned();
    error::contain(call).map_err(|panic| panic.message.unwrap_or_else(no_message))
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    struct PanicsInDrop(&'static str);

    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("{}", self.0);
            }
        }
    }

    /// Calls a handler.
    fn call<F>(handler: impl FnOnce() -> F) -> ContainedRun
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        ContainedRun::new(|| Box::pin(contained(handler())))
    }

    fn end(run: &mut ContainedRun) -> Option<Outcome> {
        match Pin::new(run).poll(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }

    fn message_of(mut run: ContainedRun) -> String {
        match end(&mut run) {
            Some(Outcome::Panicked(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_panic_is_contained_where_the_future_is_created_polled_or_dropped() {
        assert_eq!(message_of(ContainedRun::new(|| panic!("at creation"))), "at creation");
        assert_eq!(message_of(call(|| async { panic!("number {}", 7) })), "number 7");
        let dropped = call(|| {
            let value = PanicsInDrop("in drop");
            poll_fn(move |_| {
                let _ = &value;
                Poll::Ready(Ok(()))
            })
        });
        assert_eq!(message_of(dropped), "in drop");
    }

    #[test]
    fn a_panic_in_the_drop_of_a_cancelled_run_is_contained() {
        let run = || {
            call(|| {
                let value = PanicsInDrop("cancelled");
                async move {
                    let _value = value;
                    std::future::pending().await
                }
            })
        };
        let mut cancelled = run();
        assert!(end(&mut cancelled).is_none());
        assert_eq!(cancelled.cancel().as_deref(), Some("cancelled"));
        let mut dropped = run();
        assert!(end(&mut dropped).is_none());
        drop(dropped);
    }

    #[test]
    fn a_panic_without_a_text_and_one_whose_payload_panics_are_contained() {
        let text = message_of(ContainedRun::new(|| panic_any(5)));
        assert_eq!(text, "the panic has no message");
        let text = message_of(ContainedRun::new(|| panic_any(PanicsInDrop("payload"))));
        assert_eq!(text, "the panic has no message");
    }

    #[test]
    fn an_error_and_a_success_are_the_outcome() {
        let mut failed = call(|| async { Err("no".into()) });
        assert!(
            matches!(end(&mut failed), Some(Outcome::Failed(error)) if error.to_string() == "no")
        );
        let mut done = call(|| async { Ok(()) });
        assert!(matches!(end(&mut done), Some(Outcome::Done)));
    }
}
