#[cfg(feature = "testing")]
mod fork;

use std::future::{Future, pending, poll_fn, ready};
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use super::background::Background;
use super::hook_run::HookRun;
use super::reactor::Reactor;
use super::runtime::OwnedRuntime;
use super::waiter::Waiter;
use super::{Connection, Listener, Notifier, park};
use crate::error::{Error, ErrorKind};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(60);

const NO_SERVER: &str = "host=127.0.0.1 port=1 user=x sslmode=disable";

/// Pending at the first poll. It gives its waker to the test.
fn woken_by(wakers: mpsc::Sender<Waker>) -> impl Future<Output = u32> {
    let mut polls = 0;
    poll_fn(move |cx| {
        polls += 1;
        if polls > 1 {
            return Poll::Ready(polls);
        }
        wakers.send(cx.waker().clone()).unwrap();
        Poll::Pending
    })
}

#[test]
fn a_parked_thread_is_woken_by_the_waker_of_its_future() {
    for _ in 0..100 {
        let (wakers, received) = mpsc::channel::<Waker>();
        let waking = thread::spawn(move || received.recv().unwrap().wake());
        assert_eq!(park::block_on(woken_by(wakers)), 2);
        waking.join().unwrap();
    }
}

#[test]
fn a_wake_up_before_the_thread_is_parked_is_not_lost() {
    let mut is_first = true;
    let future = poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if std::mem::take(&mut is_first) { Poll::Pending } else { Poll::Ready(7) }
    });
    assert_eq!(park::block_on(future), 7);
}

/// Other code may unpark the thread, and leave its token behind.
#[test]
fn a_thread_that_other_code_unparks_does_not_poll_again() {
    thread::current().unpark();
    let mut polls = 0;
    let until = Instant::now() + Duration::from_millis(20);
    let found = park::block_until(
        Some(until),
        poll_fn(|_| {
            polls += 1;
            Poll::<()>::Pending
        }),
    );
    assert_eq!((found, polls), (None, 1));
    assert!(Instant::now() >= until);
}

#[test]
fn a_deadline_that_has_passed_allows_one_poll() {
    let past = Some(Instant::now());
    assert_eq!(park::block_until(past, ready(1)), Some(1));
    assert_eq!(park::block_until(past, pending::<()>()), None);
}

#[test]
fn a_future_that_is_woken_all_the_time_does_not_extend_the_deadline() {
    let until = Instant::now() + Duration::from_millis(5);
    let always_woken = poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    });
    assert_eq!(park::block_until(Some(until), always_woken), None);
    assert!(Instant::now() >= until);
}

/// A call inside of another one, such as that of a password provider, has a waker of its own.
#[test]
fn a_call_inside_of_a_call_does_not_take_its_wake_up() {
    let mut polls = 0;
    let outer = poll_fn(|cx| {
        polls += 1;
        if polls == 1 {
            cx.waker().wake_by_ref();
            // It waits until its own deadline: the wake-up is not its own.
            let until = Instant::now() + Duration::from_millis(5);
            assert_eq!(park::block_until(Some(until), pending::<()>()), None);
            assert!(Instant::now() >= until);
            return Poll::Pending;
        }
        Poll::Ready(())
    });
    assert_eq!(park::block_until(Some(Instant::now() + LONG), outer), Some(()));
    assert_eq!(polls, 2);
}

/// The budget of the caller's task is not renewed during a call that blocks. An earlier version waited forever.
#[test]
fn a_call_in_a_task_may_take_more_than_the_budget_of_the_task() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    for number in 0..1_000 {
        sender.send(number).unwrap();
    }
    runtime.block_on(async {
        for expected in 0..1_000 {
            let until = Some(Instant::now() + LONG);
            assert_eq!(park::block_until(until, receiver.recv()), Some(Some(expected)));
        }
    });
}

#[test]
fn a_runtime_can_be_dropped_in_a_task_of_another_one() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        drop(OwnedRuntime::new().unwrap());
        drop(Background::start().unwrap());
        drop(Reactor::new().unwrap());
    });
}

#[test]
fn a_call_in_a_background_thread_is_misuse_and_has_no_effect() {
    let background = Background::start().unwrap();
    let call = |call: fn() -> Option<Error>| {
        let error = background.run(async move { Ok(tokio::spawn(async move { call() }).await) });
        error.unwrap().unwrap().expect("the call is refused")
    };
    let calls: [fn() -> Option<Error>; 4] = [
        || Connection::connect(NO_SERVER).err(),
        || Listener::connect(NO_SERVER).err(),
        || Notifier::connect(NO_SERVER).err(),
        || Waiter::new().wait(pending::<Result<(), Error>>()).err(),
    ];
    for refused in calls.map(call) {
        assert_eq!(refused.kind(), ErrorKind::Misuse, "{refused}");
        assert!(refused.to_string().contains("background thread"), "{refused}");
        let hint = "make the call in another thread, for example with std::thread::spawn";
        assert_eq!(refused.hint(), Some(hint), "{refused}");
    }
}

/// The drop waits for nothing, although it is not in the context of a runtime that could be asked.
#[test]
fn a_background_thread_can_drop_another_one_and_itself() {
    let (first, second) = (Background::start().unwrap(), Background::start().unwrap());
    let (sender, dropped) = mpsc::channel();
    let carried = (first, sender);
    drop(second.run(async move {
        tokio::spawn(async move {
            drop(carried.0);
            carried.1.send(()).unwrap();
        });
        Ok(())
    }));
    dropped.recv_timeout(LONG).unwrap();
}

#[test]
fn a_call_in_a_forked_process_is_misuse_and_its_drop_waits_for_nothing() {
    let mut background = Background::start().unwrap();
    background.after_fork();
    let refused = background.run(async { Ok(()) }).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Misuse);
    assert!(refused.to_string().contains("forked"), "{refused}");
    assert_eq!(refused.hint(), Some("connect again in the child process"), "{refused}");
    background.end(None);
}

/// After its end the runtime may end, in which a poll would panic.
#[test]
fn a_run_of_the_hook_ends_after_the_poll_of_its_call() {
    let background = Background::start().unwrap();
    let begun = background.run(async { Ok(HookRun::begin(Waiter::new())) });
    let (mut run, end) = begun.unwrap();
    let (polled, polling) = mpsc::channel();
    let (ended, has_ended) = mpsc::channel();
    let ending = thread::spawn(move || {
        polling.recv_timeout(LONG).unwrap();
        drop(end);
        ended.send(()).unwrap();
    });
    let call = run.run(poll_fn(|_| {
        polled.send(()).unwrap();
        let waited = has_ended.recv_timeout(Duration::from_millis(100));
        assert_eq!(waited, Err(mpsc::RecvTimeoutError::Timeout), "it ends during a poll");
        Poll::<Result<(), Error>>::Pending
    }));
    assert_eq!(call.unwrap_err().kind(), ErrorKind::Closed);
    ending.join().unwrap();
    assert_eq!(run.run(async { Ok(()) }).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn the_end_waits_for_the_thread() {
    let mut background = Background::start().unwrap();
    let (sender, receiver) = mpsc::channel::<()>();
    let spawned = background.run(async move {
        // Dropped with the runtime.
        tokio::spawn(async move {
            let _sender = sender;
            pending::<()>().await;
        });
        Ok(())
    });
    spawned.unwrap();
    background.end(None);
    assert_eq!(receiver.try_recv(), Err(mpsc::TryRecvError::Disconnected));
}

#[test]
fn the_types_can_be_sent_and_shared_as_documented() {
    fn sent<T: Send + 'static>() {}
    fn shared<T: Clone + Send + Sync + 'static>() {}
    sent::<Listener>();
    sent::<Connection>();
    sent::<super::IntoIter>();
    shared::<Notifier>();
    shared::<super::ListenerHandle>();
    shared::<super::ListenerBuilder>();
    shared::<super::NotifierBuilder>();
}
