//! [`StateWatch`]: the state of a listener, hub or notifier, which its users can wait for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::wake_all::WakeAll;
use crate::proto::supervisor::State;

/// The state, written only by the task.
#[derive(Debug)]
pub(crate) struct StateWatch(Arc<Watched>);

#[derive(Debug)]
struct Watched {
    entered: Mutex<CountedState>,
    changed: WakeAll,
}

/// There is no task any more.
impl Drop for StateWatch {
    fn drop(&mut self) {
        self.0.lock().state = State::Closed;
        self.0.changed.wake();
    }
}

/// The state, and how often each state was entered. With the counts, a task that waits for a state does not miss a short
/// one.
#[derive(Debug, Clone, Copy)]
struct CountedState {
    state: State,
    times: [u64; 5],
}

impl CountedState {
    fn times(&self, state: State) -> u64 {
        self.times.get(state as usize).copied().unwrap_or(0)
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        if let Some(times) = self.times.get_mut(state as usize) {
            *times = times.wrapping_add(1);
        }
    }
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, CountedState> {
        self.entered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateWatch {
    pub(crate) fn new(state: State) -> Self {
        let entered = Mutex::new(CountedState { state, times: [0; 5] });
        Self(Arc::new(Watched { entered, changed: WakeAll::default() }))
    }

    pub(crate) fn get(&self) -> State {
        self.0.lock().state
    }

    /// Returns how often the state was entered.
    #[cfg(all(test, feature = "testing"))]
    pub(crate) fn times(&self, state: State) -> u64 {
        self.0.lock().times(state)
    }

    pub(crate) fn set(&self, state: State) {
        self.0.lock().enter(state);
        self.0.changed.wake();
    }

    /// Waits until the state is this one, or was this one since the call. Returns false if it is `Closed`, and will never be
    /// this one.
    pub(crate) fn wait(&self, state: State) -> impl Future<Output = bool> + use<> {
        let watched = self.0.clone();
        // Now, and not when the future is polled first.
        let before = *watched.lock();
        async move {
            let outcome = || {
                let current = *watched.lock();
                let is_or_was =
                    current.state == state || current.times(state) != before.times(state);
                (is_or_was || current.state == State::Closed).then_some(is_or_was)
            };
            watched.changed.wait_until(outcome).await
        }
    }
}
