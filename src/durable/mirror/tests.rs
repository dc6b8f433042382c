//! Tests of the parts of a mirror that need no server.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use proptest::prelude::*;

use super::machine::Machine;
use super::pace::Pace;
use super::polls::Polls;
use super::reader::Reader;
use super::reads::Reads;
use super::rules::Rules;
use super::shared::Phase;
use super::store::{Entry, Store, Table};
use super::task::Task;
use super::waiter::Waiter;
use super::{Mirror, MirrorSource, MirrorWatch, Shared};
use crate::config::Config;
use crate::proto::supervisor::{Backoff, Reconnect};
use crate::wakeups::{Listen, WakeTask, Wakeups};

type Shop = Store<u32>;

fn entry<V>(value: Option<V>) -> Entry<V> {
    Entry { value: value.map(Arc::new), mark: (0, 0) }
}

fn table<V>(rows: impl IntoIterator<Item = (&'static str, V)>) -> Table<V> {
    rows.into_iter().map(|(key, value)| (key.into(), entry(Some(value)))).collect()
}

fn values(store: &Shop) -> BTreeMap<String, u32> {
    store.values().0.iter().map(|(key, value)| (key.to_string(), **value)).collect()
}

#[test]
fn a_key_is_watched_until_its_last_watch_is_dropped() {
    let shared = Arc::new(Shared::<u32>::new("test".to_owned(), None));
    let mirror = Mirror::new(shared.clone());
    let (one, other) = (mirror.watch_key("a"), mirror.watch_key("a"));
    let more = mirror.watch_key("b");
    assert_eq!(shared.store.watched_keys(), 2);
    drop(one);
    assert_eq!(shared.store.watched_keys(), 2);
    drop((other, more));
    assert_eq!(shared.store.watched_keys(), 0);
}

/// Its drop is code of the user.
struct Careful(Weak<Store<Careful>>);

impl Drop for Careful {
    fn drop(&mut self) {
        if let Some(store) = self.0.upgrade() {
            // With a lock that is held, this would wait for itself.
            store.counts();
            store.unwatch("a");
        }
        panic!("in the drop of a value");
    }
}

#[test]
fn values_are_dropped_without_a_lock_and_their_panics_are_contained() {
    let store = Arc::new(Store::new());
    let value = || Careful(Arc::downgrade(&store));
    let (_, receiver) = store.watch_key("a");
    store.replace(table([("a", value()), ("b", value())]), 0, 0);
    store.change(vec![("a".into(), entry(Some(value())))], &["b".to_owned()]);
    store.replace(table([("a", value())]), 0, 1);
    assert_eq!(store.counts(), (1, 0, 3));
    drop(receiver);
    store.unwatch("a");
    store.change(Vec::new(), &["a".to_owned()]);
    assert_eq!(store.counts(), (0, 0, 4));
}

struct Panics(AtomicUsize);

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("in a waker");
    }
}

#[test]
fn a_panic_of_the_waker_of_one_watch_concerns_no_other_one() {
    let shared = Arc::new(Shared::<u32>::new("test".to_owned(), None));
    let mirror = Mirror::new(shared.clone());
    let (mut one, mut other, mut whole) =
        (mirror.watch_key("a"), mirror.watch_key("b"), mirror.watch());
    let panics = Arc::new(Panics(AtomicUsize::new(0)));
    {
        let mut waiting = Box::pin(one.changed());
        let waker = Waker::from(panics.clone());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        shared.store.replace(table([("a", 1), ("b", 2)]), 0, 0);
    }
    assert_eq!(panics.0.load(Ordering::Relaxed), 1);
    let mut context = Context::from_waker(Waker::noop());
    let mut next = Box::pin(other.changed());
    assert!(
        matches!(next.as_mut().poll(&mut context), Poll::Ready(Ok(Some(value))) if *value == 2)
    );
    let mut next = Box::pin(whole.changed());
    assert!(matches!(next.as_mut().poll(&mut context), Poll::Ready(Ok(1))));
}

/// Takes the version of a watch while a change is shown to watches, which is code of the user.
struct Looks(Mutex<(MirrorWatch<u32>, Vec<u64>)>);

impl Wake for Looks {
    fn wake(self: Arc<Self>) {
        let (watch, seen) = &mut *self.0.lock().unwrap();
        seen.push(watch.version());
    }
}

#[test]
fn a_watch_does_not_report_a_version_again_that_it_has_returned_already() {
    let shared = Arc::new(Shared::<u32>::new("test".to_owned(), None));
    let mirror = Mirror::new(shared.clone());
    let mut key = mirror.watch_key("a");
    let looks = Arc::new(Looks(Mutex::new((mirror.watch(), Vec::new()))));
    let mut waiting = Box::pin(key.changed());
    let waker = Waker::from(looks.clone());
    assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    shared.store.replace(table([("a", 1)]), 0, 0);
    let (watch, seen) = &mut *looks.0.lock().unwrap();
    // The waker ran between the change of the content and that of the version that watches have.
    assert_eq!(*seen, [0]);
    let mut next = Box::pin(watch.changed());
    assert!(matches!(
        next.as_mut().poll(&mut Context::from_waker(Waker::noop())),
        Poll::Ready(Ok(1))
    ));
    drop(next);
    assert!(
        Box::pin(watch.changed())
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
}

/// Its close would wait for ever.
#[test]
fn a_mirror_whose_task_was_dropped_before_its_first_poll_has_ended() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let shared = runtime.block_on(async {
        let config: Config = "host=/nowhere".parse().unwrap();
        let task = WakeTask::new("test");
        let wakeups = Wakeups::builder(config.clone()).task(task).listen(Listen::Disabled);
        let wakeups = wakeups.connect().await.unwrap();
        let worker = wakeups.worker("test").unwrap();
        let shared = Arc::new(Shared::<u32>::new("test".to_owned(), Some(wakeups)));
        let rules =
            Rules { decode: Box::new(|_| Ok(1)), key: "id".to_owned(), max_rows: usize::MAX };
        let statements = MirrorSource::table("orders", "id").statements().unwrap();
        let reads = Reads::new(
            shared.clone(),
            rules,
            Reader::new(config, Duration::from_secs(1), statements),
        );
        let backoff = Backoff::new(&Reconnect::default(), 7);
        let pace = Pace::new(Duration::ZERO, Duration::ZERO);
        let machine = Machine::new(backoff, Duration::ZERO, pace);
        let polls = Polls::new(worker, Duration::MAX);
        drop(tokio::spawn(Task::new(shared.clone(), reads, machine, polls).run()));
        shared
    });
    drop(runtime);
    assert_eq!(*shared.phase.borrow(), Phase::Ended);
    let mut ended = Box::pin(shared.ended());
    assert!(ended.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

#[test]
fn a_call_is_answered_by_the_read_that_has_read_all_that_it_has_asked_for() {
    let set = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect::<BTreeSet<_>>();
    let waiter = |keys| Waiter::new(keys, tokio::sync::oneshot::channel().0);
    let (some, all) = (waiter(Some(set(&["a", "b"]))), waiter(None));
    for (read, answers_some, answers_all) in [
        (Some(set(&["a", "b", "c"])), true, false),
        // `b` is not valid, or waits for the load.
        (Some(set(&["a", "c"])), false, false),
        (None, true, true),
    ] {
        assert_eq!(some.is_answered_by(read.as_ref()), answers_some, "{read:?}");
        assert_eq!(all.is_answered_by(read.as_ref()), answers_all, "{read:?}");
    }
}

#[test]
fn no_debug_text_shows_a_row() {
    let shared = Arc::new(Shared::<&str>::new("orders".to_owned(), None));
    let mirror = Mirror::new(shared.clone());
    shared.store.replace(table([("pl4nted key", "pl4nted value")]), 0, 0);
    let (watch, key) = (mirror.watch(), mirror.watch_key("pl4nted key"));
    let text = format!("{mirror:?} {:?} {watch:?} {key:?}", mirror.snapshot());
    assert!(text.contains("orders") && !text.contains("pl4nted"), "{text}");
    // The text of a query is not secret, but that of a configuration may be.
    let source = MirrorSource::query("SELECT 1 AS id", "id");
    let builder = Mirror::builder("postgres://user:pl4nted@localhost/shop", source);
    assert!(!format!("{builder:?}").contains("pl4nted"));
}

#[test]
fn a_mirror_that_is_never_used_is_closed_by_its_drop() {
    let shared = Arc::new(Shared::<u32>::new("test".to_owned(), None));
    drop(Mirror::new(shared.clone()));
    assert!(shared.status().is_closed);
    assert!(
        catch_unwind(|| drop(Mirror::new(Arc::new(Shared::<u32>::new(String::new(), None)))))
            .is_ok()
    );
}

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Debug, Clone)]
enum Step {
    /// Some keys get a value, or have none because they are not decoded.
    Change(Vec<(usize, Option<u32>)>),
    Vanish(Vec<usize>),
    Replace(Vec<Option<u32>>),
}

fn step() -> impl Strategy<Value = Step> {
    let value = || prop::option::weighted(0.8, 0..3_u32);
    prop_oneof![
        prop::collection::vec((0..4_usize, value()), 0..4).prop_map(Step::Change),
        prop::collection::vec(0..4_usize, 0..4).prop_map(Step::Vanish),
        prop::collection::vec(value(), 4).prop_map(Step::Replace),
    ]
}

proptest! {
    /// Counts, watches and versions follow the content, whatever is done.
    #[test]
    fn counts_watches_and_versions_follow_the_content(steps in prop::collection::vec(step(), 1..30)) {
        let store = Shop::new();
        let mut model = BTreeMap::<&str, Option<u32>>::new();
        let mut watches = KEYS.map(|key| store.watch_key(key).1);
        let mut whole = store.watch();
        for step in steps {
            let (before, version) = (values(&store), store.counts().2);
            let changes = match step {
                Step::Change(rows) => {
                    let rows: BTreeMap<_, _> = rows.into_iter().map(|(key, value)| (KEYS[key], value)).collect();
                    model.extend(rows.clone());
                    store.change(rows.into_iter().map(|(key, value)| (key.into(), entry(value))).collect(), &[])
                }
                Step::Vanish(keys) => {
                    model.retain(|key, _| !keys.iter().any(|gone| KEYS[*gone] == *key));
                    store.change(Vec::new(), &keys.iter().map(|key| KEYS[*key].to_owned()).collect::<Vec<_>>())
                }
                Step::Replace(rows) => {
                    let rows: BTreeMap<_, _> = KEYS.into_iter().zip(rows).filter(|(_, value)| value.is_some()).collect();
                    let changed = rows.keys().filter(|key| model.contains_key(*key)).count();
                    let expected = rows.len() + model.len() - changed;
                    model = rows.clone();
                    let table = rows.into_iter().map(|(key, value)| (key.into(), entry(value))).collect();
                    let changes = store.replace(table, 0, changed);
                    prop_assert_eq!(changes, expected);
                    changes
                }
            };
            let left_out = model.values().filter(|value| value.is_none()).count();
            prop_assert_eq!(store.counts(), (model.len() - left_out, left_out, version + u64::from(changes > 0)));
            prop_assert_eq!(whole.has_changed().unwrap(), changes > 0);
            whole.borrow_and_update();
            let now = values(&store);
            prop_assert_eq!(&now, &model.iter().filter_map(|(key, value)| Some(((*key).to_owned(), (*value)?))).collect::<BTreeMap<_, _>>());
            for (key, watch) in KEYS.into_iter().zip(&mut watches) {
                let has_changed = watch.has_changed().unwrap();
                let seen = watch.borrow_and_update().clone();
                prop_assert_eq!(seen.as_deref(), now.get(key));
                prop_assert!(has_changed || before.get(key) == now.get(key));
            }
        }
    }
}
