//! Wakers of calls are code of the user, and may panic.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::{Semaphore, mpsc};

use super::*;
use crate::notifier::queue::{NotifierShared, RequestQueue};
use crate::notifier::request::Room;
use crate::proto::supervisor::State;
use crate::queue::StateWatch;

struct PanickingWaker;

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        panic!("in a waker");
    }
}

fn panicking() -> Waker {
    Waker::from(Arc::new(PanickingWaker))
}

/// A call releases its room as soon as it has its answer. In an earlier version the panic dropped the other calls of its group
/// without their answers.
#[test]
fn all_calls_of_a_group_are_answered_if_the_waker_of_a_call_that_waits_for_room_panics() {
    let mut scene = NotifierScene::new();
    let semaphore = Arc::new(Semaphore::new(4));
    let mut calls: Vec<Call> = ["first", "1", "2", "3"]
        .iter()
        .map(|payload| {
            let (reply, call) = oneshot::channel();
            let room = Room::new(semaphore.clone().try_acquire_owned().unwrap());
            scene.machine.accept(Request {
                message: Message::Notify {
                    channel: "a".to_owned(),
                    payload: (*payload).to_owned(),
                },
                called_at: scene.now,
                room: Some(room),
                reply: Reply::new(reply),
            });
            scene.start();
            call
        })
        .collect();
    scene.write_all();
    let mut waiting: Vec<_> = (0..4).map(|_| Box::pin(semaphore.acquire())).collect();
    for one in &mut waiting {
        assert!(one.as_mut().poll(&mut Context::from_waker(&panicking())).is_pending());
    }
    scene.answer();
    scene.write_all();
    scene.answer();
    for call in &mut calls {
        assert_eq!(kind(call), Some(Ok(())));
    }
}

/// The drop of a second reply would panic while the first panic unwinds, which ends the process.
#[test]
fn replies_that_are_dropped_without_an_answer_do_not_panic() {
    let (replies, mut calls): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel()).unzip();
    let replies: Vec<Reply> = replies.into_iter().map(Reply::new).collect();
    for call in &mut calls {
        let polled = pin!(call).poll(&mut Context::from_waker(&panicking()));
        assert!(polled.is_pending());
    }
    drop(replies);
    assert!(calls.iter_mut().all(|call| call.try_recv().is_err()));
}

/// In an earlier version such a panic ended a notifier that would have reconnected.
#[test]
fn a_new_state_is_set_if_the_waker_of_a_task_that_waits_for_it_panics() {
    let watch = StateWatch::new(State::Connected);
    let mut waiting: Vec<_> = (0..50).map(|_| Box::pin(watch.wait(State::Reconnecting))).collect();
    for one in &mut waiting {
        assert!(one.as_mut().poll(&mut Context::from_waker(&panicking())).is_pending());
    }
    watch.set(State::Reconnecting);
    assert_eq!(watch.get(), State::Reconnecting);
    for one in &mut waiting {
        assert!(one.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}

/// In an earlier version the wait began when the future was polled first.
#[test]
fn a_state_that_is_entered_before_the_first_poll_of_a_wait_is_not_missed() {
    let watch = StateWatch::new(State::Connected);
    let waiting = pin!(watch.wait(State::Reconnecting));
    watch.set(State::Reconnecting);
    watch.set(State::Closed);
    let polled = waiting.poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(polled, Poll::Ready(true));
}

/// In an earlier version nothing was closed.
#[tokio::test]
async fn a_close_whose_future_is_dropped_before_it_is_polled_is_a_close() {
    let (requests, _inbox) = mpsc::unbounded_channel();
    let (closes, mut ends) = mpsc::unbounded_channel();
    let shared = Arc::new(NotifierShared::new(None, TIMEOUT, 1_000));
    let queue = RequestQueue::new(requests, closes, shared);
    drop(queue.close());
    assert!(ends.try_recv().is_ok());
}
