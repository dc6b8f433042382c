//! [`Echoes`]: the notifications of nudges that have woken the workers already. Without I/O.
//!
//! ```text
//! Notifier::nudge ─▶ the doorbells, at once
//!        └─ sent ─▶ Echoes: expected ─▶ the server ─▶ its notification: expected, so it rings nothing
//! ```
//! Everything that is not certain rings: a notification is an echo only if a nudge of its channel and its key was sent by the session with
//! its process id, to the server and the database of the listening session, and has no echo yet. What may have been sent twice is not
//! expected, and neither is anything while no session listens.

mod name;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::name::{EchoName, Named};
use crate::net::SessionPlace;
use crate::notifier::{Nudge, NudgeSource};

/// The highest number of different nudges whose echo is expected. Beyond it the oldest ones are forgotten: their echoes wake the workers
/// once more. An echo that does not come, as that of a channel whose LISTEN was refused, keeps no other one out.
const EXPECTED_MAX: usize = 4_096;

/// The highest number of bytes of their keys.
const EXPECTED_BYTES_MAX: usize = 256 * 1_024;

/// How long an echo is expected. A later one wakes the workers once more.
///
/// The address of a server may be that of another one after a failover, as that of a proxy is. While the session of the nudges is still
/// connected to the former server, its echoes never arrive, and those of another session of the new server may look like them.
const EXPECTED_TIME: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Echoes {
    expected: Mutex<Expected>,
    /// Whether one is expected, to be read without the lock.
    is_any: AtomicBool,
}

#[derive(Debug, Default)]
struct Expected {
    /// That of the listening session. `None`: there is none, or it does not listen yet, or its server is not certain.
    place: Option<SessionPlace>,
    young: Generation,
    /// Those that were expected before the young ones. They are forgotten when there are too many young ones.
    old: Generation,
}

/// At most half of what may be expected.
#[derive(Debug, Default)]
struct Generation {
    echoes: BTreeMap<EchoName, Echo>,
    /// Of the keys.
    bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Echo {
    /// How many of them are expected.
    count: u32,
    /// When the first of them was sent.
    since: Instant,
}

impl Echo {
    fn is_expected(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < EXPECTED_TIME
    }
}

impl Echoes {
    fn lock(&self) -> MutexGuard<'_, Expected> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Expected) -> T) -> T {
        let mut expected = self.lock();
        let result = change(&mut expected);
        self.is_any.store(!expected.is_empty(), Ordering::Release);
        result
    }

    /// Sets where the session is that listens to all channels from now on. Nothing is expected of what was sent before: it may be lost.
    pub(super) fn listens_at(&self, place: Option<SessionPlace>) {
        self.change(|expected| *expected = Expected { place, ..Expected::default() });
    }

    #[cfg(test)]
    pub(super) fn is_any(&self) -> bool {
        self.is_any.load(Ordering::Acquire)
    }

    /// Expects the echoes of nudges that are sent.
    pub(super) fn expect<'a>(
        &self,
        source: &NudgeSource,
        nudges: impl Iterator<Item = &'a Nudge>,
        now: Instant,
    ) {
        self.change(|expected| {
            if expected.place.as_ref() == Some(&source.place) {
                nudges.for_each(|nudge| expected.add(source.process_id, nudge, now));
            }
        });
    }

    /// Expects no echo of nudges that were refused.
    pub(super) fn refused(&self, source: &NudgeSource, nudges: &[Nudge], now: Instant) {
        self.change(|expected| {
            for Nudge { channel, key } in nudges {
                expected.take((source.process_id, channel, key), now);
            }
        });
    }

    /// Expects no echo of the session with this process id: a later session may get the same one.
    pub(super) fn session_ended(&self, process_id: i32) {
        self.change(|expected| {
            expected.young.remove_all_of(process_id);
            expected.old.remove_all_of(process_id);
        });
    }

    /// Appends to `found`, for each notification on a channel, whether it is an echo. Then it is not expected again. Each notification is its
    /// process id and its payload. `found` stays empty if no echo is expected: then it needs neither memory nor a lock.
    pub(super) fn recognize<'a>(
        &self,
        channel: &[u8],
        notifications: impl Iterator<Item = (i32, &'a [u8])>,
        now: Instant,
        found: &mut Vec<bool>,
    ) {
        if !self.is_any.load(Ordering::Acquire) {
            return;
        }
        let Ok(channel) = std::str::from_utf8(channel) else { return };
        self.change(|expected| {
            found.extend(notifications.map(|(process_id, payload)| {
                let key = std::str::from_utf8(payload);
                key.is_ok_and(|key| expected.take((process_id, channel, key), now))
            }));
        });
    }
}

impl Expected {
    fn is_empty(&self) -> bool {
        self.young.echoes.is_empty() && self.old.echoes.is_empty()
    }

    fn add(&mut self, process_id: i32, nudge: &Nudge, now: Instant) {
        let Nudge { channel, key } = nudge;
        let name: &dyn Named = &(process_id, &**channel, &**key);
        let found = self.young.remove(name).or_else(|| self.old.remove(name));
        // Those that have not come in time do not add up.
        let echo = match found.filter(|echo| echo.is_expected(now)) {
            Some(echo) => Echo { count: echo.count.saturating_add(1), ..echo },
            None => Echo { count: 1, since: now },
        };
        let is_full = self.young.echoes.len() >= EXPECTED_MAX / 2
            || self.young.bytes + key.len() > EXPECTED_BYTES_MAX / 2;
        if is_full {
            self.old = mem::take(&mut self.young);
        }
        self.young.bytes += key.len();
        let name = EchoName { process_id, channel: channel.clone(), key: key.clone() };
        self.young.echoes.insert(name, echo);
    }

    /// Takes one that is expected. None is in both generations.
    fn take(&mut self, name: (i32, &str, &str), now: Instant) -> bool {
        self.young.take(&name, now) || self.old.take(&name, now)
    }
}

impl Generation {
    fn take(&mut self, name: &dyn Named, now: Instant) -> bool {
        let Some(echo) = self.echoes.get_mut(name) else { return false };
        let is_expected = echo.is_expected(now);
        echo.count -= 1;
        if echo.count == 0 || !is_expected {
            self.remove(name);
        }
        is_expected
    }

    fn remove(&mut self, name: &dyn Named) -> Option<Echo> {
        let (name, echo) = self.echoes.remove_entry(name)?;
        self.bytes -= name.key.len();
        Some(echo)
    }

    fn remove_all_of(&mut self, process_id: i32) {
        let bytes = &mut self.bytes;
        self.echoes.retain(|name, _| {
            let is_kept = name.process_id != process_id;
            *bytes -= if is_kept { 0 } else { name.key.len() };
            is_kept
        });
    }
}
