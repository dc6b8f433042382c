//! [`Echoes`]: the notifications of nudges that have woken the workers already. Without I/O.
//!
//! ```text
//! Notifier::nudge ─▶ the doorbells, at once
//!        └─ sent ─▶ Echoes: expected ─▶ the server ─▶ its notification: expected, so it rings nothing
//! ```
//! Everything that is not certain rings: a notification is an echo only if a nudge of its channel and its key was sent by the session with
//! its process id, to the server and the database of the listening session, and has no echo yet. What may have been sent twice is not
//! expected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::notifier::{Nudge, NudgeSource, SessionPlace};

/// The highest number of different nudges whose echo is expected. Further echoes wake the workers once more.
const EXPECTED_MAX: usize = 4_096;

/// The highest number of bytes of their keys.
const EXPECTED_BYTES_MAX: usize = 256 * 1_024;

#[derive(Debug, Default)]
pub(super) struct Echoes {
    expected: Mutex<Expected>,
    /// Whether one is expected, to be read without the lock.
    is_any: AtomicBool,
}

#[derive(Debug, Default)]
struct Expected {
    /// That of the listening session. `None`: there is none, or its server is not certain.
    place: Option<SessionPlace>,
    /// How many, by process id, channel and key.
    echoes: BTreeMap<EchoName, u32>,
    bytes: usize,
}

type EchoName = (i32, Arc<str>, Arc<str>);

impl Echoes {
    fn lock(&self) -> MutexGuard<'_, Expected> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Expected)) {
        let mut expected = self.lock();
        change(&mut expected);
        self.is_any.store(!expected.echoes.is_empty(), Ordering::Release);
    }

    /// Sets the server and the database of the listening session.
    pub(super) fn listens_at(&self, place: Option<SessionPlace>) {
        self.change(|expected| expected.place = place);
    }

    /// Expects the echoes of nudges that are sent.
    pub(super) fn expect<'a>(&self, source: &NudgeSource, nudges: impl Iterator<Item = &'a Nudge>) {
        self.change(|expected| {
            if expected.place.as_ref() != Some(&source.place) {
                return;
            }
            for Nudge { channel, key } in nudges {
                let name = (source.process_id, channel.clone(), key.clone());
                if let Some(count) = expected.echoes.get_mut(&name) {
                    *count = count.saturating_add(1);
                    continue;
                }
                let bytes = expected.bytes + key.len();
                if expected.echoes.len() < EXPECTED_MAX && bytes <= EXPECTED_BYTES_MAX {
                    expected.bytes = bytes;
                    expected.echoes.insert(name, 1);
                }
            }
        });
    }

    /// Expects no echo of nudges that were refused.
    pub(super) fn refused(&self, source: &NudgeSource, nudges: &[Nudge]) {
        self.change(|expected| {
            for Nudge { channel, key } in nudges {
                expected.take(&(source.process_id, channel.clone(), key.clone()));
            }
        });
    }

    /// Expects no echo of the session with this process id: a later session may get the same one.
    pub(super) fn session_ended(&self, process_id: i32) {
        self.change(|expected| {
            let is_kept = |(of, ..): &EchoName| *of != process_id;
            let bytes: usize = expected
                .echoes
                .keys()
                .filter(|name| !is_kept(name))
                .map(|(.., key)| key.len())
                .sum();
            expected.bytes -= bytes;
            expected.echoes.retain(|name, _| is_kept(name));
        });
    }

    /// Expects no echo: the listening session was lost, and notifications with it.
    pub(super) fn clear(&self) {
        self.change(|expected| {
            expected.echoes.clear();
            expected.bytes = 0;
        });
    }

    /// Returns whether this notification is an echo. Then it is not expected again.
    pub(super) fn is_echo(&self, process_id: i32, channel: &[u8], payload: &[u8]) -> bool {
        if !self.is_any.load(Ordering::Acquire) {
            return false;
        }
        let (Ok(channel), Ok(key)) = (std::str::from_utf8(channel), std::str::from_utf8(payload))
        else {
            return false;
        };
        let mut is_echo = false;
        self.change(|expected| is_echo = expected.take(&(process_id, channel.into(), key.into())));
        is_echo
    }
}

impl Expected {
    fn take(&mut self, name: &EchoName) -> bool {
        let Some(count) = self.echoes.get_mut(name) else { return false };
        *count -= 1;
        if *count == 0 {
            self.bytes -= name.2.len();
            self.echoes.remove(name);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn place(url: &str) -> SessionPlace {
        SessionPlace::of(&url.parse::<Config>().unwrap()).unwrap()
    }

    const HERE: &str = "postgres://bob@localhost:5432/shop";

    fn source(process_id: i32, url: &str) -> NudgeSource {
        NudgeSource { process_id, place: place(url) }
    }

    fn nudge(channel: &str, key: &str) -> Nudge {
        Nudge { channel: channel.into(), key: key.into() }
    }

    fn echoes() -> Echoes {
        let echoes = Echoes::default();
        echoes.listens_at(Some(place(HERE)));
        echoes
    }

    #[test]
    fn each_nudge_that_was_sent_has_one_echo() {
        let echoes = echoes();
        for _ in 0..2 {
            echoes.expect(&source(7, HERE), [nudge("a", "1"), nudge("a", "")].iter());
        }
        for expected in [true, true, false] {
            assert_eq!(echoes.is_echo(7, b"a", b"1"), expected);
        }
        assert!(!echoes.is_echo(8, b"a", b""), "another session");
        assert!(!echoes.is_echo(7, b"b", b""), "another channel");
        assert!(!echoes.is_echo(7, b"a", b"2"), "another key");
        assert!(!echoes.is_echo(7, b"a", b"\xff"));
        assert!(echoes.is_echo(7, b"a", b""));
    }

    /// The process ids of two servers are not related, and a channel of another database is another one.
    #[test]
    fn a_nudge_to_another_server_or_database_has_no_echo() {
        let echoes = Echoes::default();
        for (there, is_listening) in [
            (HERE, false),
            ("postgres://bob@localhost:5433/shop", true),
            ("postgres://bob@localhost:5432/mail", true),
            ("postgres://bob@db2:5432/shop", true),
        ] {
            echoes.listens_at(is_listening.then(|| place(HERE)));
            echoes.expect(&source(7, there), [nudge("a", "")].iter());
            assert!(!echoes.is_echo(7, b"a", b""), "{there}");
        }
        let several: Config = "host=a,b user=bob".parse().unwrap();
        assert_eq!(SessionPlace::of(&several), None, "which one it is can change");
    }

    #[test]
    fn nothing_is_expected_after_a_refusal_or_a_lost_session() {
        let (echoes, one, two) = (echoes(), source(7, HERE), source(8, HERE));
        let sent = [nudge("a", "1"), nudge("a", "2")];
        echoes.expect(&one, sent.iter());
        echoes.expect(&two, sent.iter());
        echoes.refused(&one, &sent[..1]);
        assert!(!echoes.is_echo(7, b"a", b"1"));
        echoes.session_ended(7);
        assert!(!echoes.is_echo(7, b"a", b"2"));
        assert!(echoes.is_echo(8, b"a", b"1"));
        echoes.clear();
        assert!(!echoes.is_echo(8, b"a", b"2"));
        assert_eq!(echoes.lock().bytes, 0);
    }

    #[test]
    fn what_is_expected_is_bounded() {
        let (echoes, one) = (echoes(), source(7, HERE));
        let keys = (0..2 * EXPECTED_MAX).map(|key| nudge("a", &key.to_string()));
        echoes.expect(&one, keys.collect::<Vec<_>>().iter());
        assert_eq!(echoes.lock().echoes.len(), EXPECTED_MAX);
        assert!(!echoes.is_echo(7, b"a", EXPECTED_MAX.to_string().as_bytes()));
        echoes.clear();
        let long = "x".repeat(7_990);
        let keys = (0..100).map(|key| nudge("a", &format!("{long}{key}")));
        echoes.expect(&one, keys.collect::<Vec<_>>().iter());
        let expected = echoes.lock();
        assert!(expected.bytes <= EXPECTED_BYTES_MAX && expected.echoes.len() == 32);
    }
}
