//! [`StateWatch`]: the state of a listener, hub or notifier, which its users can wait for.

use tokio::sync::watch;

use crate::error::contain;
use crate::proto::supervisor::State;

/// The state, written only by the task.
#[derive(Debug)]
pub(crate) struct StateWatch(watch::Sender<CountedState>);

/// The state, and how often each state was entered. With the counts, a task that waits for a state does not miss a short
/// one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CountedState {
    state: State,
    times: [u64; 5],
}

impl CountedState {
    pub(crate) fn times(&self, state: State) -> u64 {
        self.times.get(state as usize).copied().unwrap_or(0)
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        if let Some(times) = self.times.get_mut(state as usize) {
            *times = times.wrapping_add(1);
        }
    }
}

impl StateWatch {
    pub(crate) fn new(state: State) -> Self {
        Self(watch::Sender::new(CountedState { state, times: [0; 5] }))
    }

    pub(crate) fn get(&self) -> State {
        self.0.borrow().state
    }

    pub(crate) fn set(&self, state: State) {
        // The wakers of the tasks that wait are the user's code and may panic. Each is called at most once, so the loop ends.
        let mut result = contain(|| self.0.send_modify(|entered| entered.enter(state)));
        while result.is_err() {
            // The state is entered. Wakes the tasks that the panic has left asleep.
            result = contain(|| self.0.send_modify(|_| ()));
        }
    }

    #[cfg(all(test, feature = "testing"))]
    pub(crate) fn subscribe(&self) -> watch::Receiver<CountedState> {
        self.0.subscribe()
    }

    /// Waits until the state is this one, or was this one since the call. Returns false if it is `Closed`, and will never be
    /// this one.
    pub(crate) fn wait(&self, state: State) -> impl Future<Output = bool> + use<> {
        let mut watch = self.0.subscribe();
        // Now, and not when the future is polled first.
        let before = *watch.borrow();
        async move {
            if before.state == state {
                return true;
            }
            loop {
                let current = *watch.borrow_and_update();
                if current.state == state || current.times(state) != before.times(state) {
                    return true;
                }
                if current.state == State::Closed || watch.changed().await.is_err() {
                    return false;
                }
            }
        }
    }
}
