//! Polls a future in the thread of the caller, which is parked in between. The waker unparks it.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use tokio::task::coop;

thread_local! {
    /// The parker of this thread while no call uses it. So a call allocates nothing, except for the first one of a thread, and one
    /// inside of another one, which must not take the wake-ups of that.
    static UNUSED: Cell<Option<Parker>> = const { Cell::new(None) };
}

/// Parks its thread until its waker is called.
struct Parker {
    signal: Arc<Signal>,
    /// Wakes by `signal`. Kept, because a queue takes clones of it, which allocate nothing.
    waker: Waker,
}

struct Signal {
    thread: Thread,
    is_woken: AtomicBool,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // AcqRel: releases what the caller has done to the swap in `Parker::park`.
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }
}

impl Parker {
    fn new() -> Self {
        let signal =
            Arc::new(Signal { thread: thread::current(), is_woken: AtomicBool::new(false) });
        Self { waker: signal.clone().into(), signal }
    }

    /// Parks the thread until the waker is called. Returns false if it was not called before `until`.
    fn park(&self, until: Option<Instant>) -> bool {
        // A loop, because other code may unpark the thread too. A wake-up that an earlier call has not used costs one poll.
        while !self.signal.is_woken.swap(false, Ordering::AcqRel) {
            let Some(until) = until else {
                thread::park();
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            thread::park_timeout(left);
        }
        true
    }
}

/// Polls a future until it is ready.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Some(output) = block_until(None, future.as_mut()) {
            return output;
        }
    }
}

/// Polls a future until it is ready. Returns `None` if it is not ready at `until`. It is polled once in any case.
pub(super) fn block_until<F: Future>(until: Option<Instant>, future: F) -> Option<F::Output> {
    // A task of tokio has a budget, and without it every operation of tokio is pending. It is renewed only when the task returns to its
    // runtime, which a call that blocks does not do.
    let mut future = pin!(coop::unconstrained(future));
    // The thread-local value may be gone already: this may be the drop of another one.
    let parker = UNUSED.try_with(Cell::take).ok().flatten().unwrap_or_else(Parker::new);
    let mut is_over = false;
    let output = loop {
        match future.as_mut().poll(&mut Context::from_waker(&parker.waker)) {
            Poll::Ready(output) => break Some(output),
            Poll::Pending if is_over || !parker.park(until) => break None,
            // A future that is woken again and again does not extend the time.
            Poll::Pending => is_over = until.is_some_and(|until| Instant::now() >= until),
        }
    };
    let _ = UNUSED.try_with(|unused| unused.set(Some(parker)));
    output
}
