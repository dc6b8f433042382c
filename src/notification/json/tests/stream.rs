//! Tests of the stream of decoded events.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use futures_core::{FusedStream, Stream};

use super::super::{JsonEvent, JsonStream, TryRecv};
use super::notification;
use crate::error::{Error, ErrorKind};
use crate::notification::{Event, Gap, Lagged};

/// What a stream returns when it is polled: `None` is pending.
#[derive(Debug)]
struct Scripted {
    items: VecDeque<Option<Result<Event, Error>>>,
    has_ended: bool,
}

impl Scripted {
    fn new(items: impl Into<VecDeque<Option<Result<Event, Error>>>>) -> Self {
        Self { items: items.into(), has_ended: false }
    }
}

impl Stream for Scripted {
    type Item = Result<Event, Error>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let own = self.get_mut();
        // As the streams that most combinators make.
        assert!(!own.has_ended, "polled after its end");
        match own.items.pop_front() {
            Some(Some(item)) => Poll::Ready(Some(item)),
            Some(None) => Poll::Pending,
            None => {
                own.has_ended = true;
                Poll::Ready(None)
            }
        }
    }
}

impl TryRecv for Scripted {
    fn try_recv(&mut self) -> Result<Option<Event>, Error> {
        let ended = || Err(Error::new(ErrorKind::Closed, "ended"));
        self.items.pop_front().map_or_else(ended, Option::transpose)
    }
}

impl FusedStream for Scripted {
    fn is_terminated(&self) -> bool {
        self.items.is_empty()
    }
}

fn sent(payload: &str) -> Option<Result<Event, Error>> {
    Some(Ok(Event::Notification(notification(payload))))
}

/// Polls a receive once, and drops it.
fn polled(events: &mut JsonStream<Scripted, u8>) -> String {
    match pin!(events.recv()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => "pending".to_owned(),
        Poll::Ready(Err(error)) if error.kind() == ErrorKind::Closed => "end".to_owned(),
        Poll::Ready(Err(error)) => error.to_string(),
        Poll::Ready(Ok(event)) => short(event),
    }
}

fn short(event: JsonEvent<u8>) -> String {
    match event {
        JsonEvent::Value(value, notification) => {
            assert_eq!(notification.payload(), value.to_string());
            format!("value {value}")
        }
        JsonEvent::Invalid(error) => format!("invalid {}", error.notification().payload()),
        JsonEvent::Gap(gap) => format!("gap {}", gap.epoch()),
        JsonEvent::Lagged(lagged) => format!("lagged {}", lagged.count()),
    }
}

#[test]
fn every_element_of_the_stream_is_returned_at_its_place_and_a_dropped_future_loses_none() {
    let cause = Error::new(ErrorKind::Connect, "lost");
    let gap = Gap::within_session(cause.clone(), SystemTime::UNIX_EPOCH, 4);
    let script = [
        None,
        sent("1"),
        sent("x"),
        None,
        Some(Ok(Event::Gap(gap))),
        sent(""),
        Some(Ok(Event::Lagged(Lagged { first_sequence: 3, count: 5 }))),
        sent("2"),
        Some(Err(cause)),
    ];
    let mut events = JsonStream::<_, u8>::new(Scripted::new(script));
    let found: Vec<_> = (0..9).map(|_| polled(&mut events)).collect();
    let expected = [
        "pending",
        "value 1",
        "invalid x",
        "pending",
        "gap 4",
        "invalid ",
        "lagged 5",
        "value 2",
        "connection: lost",
    ];
    assert_eq!(found, expected);
    assert!(events.is_terminated());
    assert_eq!((polled(&mut events), polled(&mut events)), ("end".to_owned(), "end".to_owned()));
}

#[test]
fn what_is_not_received_is_still_in_the_stream_of_events() {
    let mut events = JsonStream::<_, u8>::new(Scripted::new([sent("1"), sent("2")]));
    assert_eq!(polled(&mut events), "value 1");
    assert_eq!((events.get_ref().items.len(), events.get_mut().items.len()), (1, 1));
    assert!(format!("{events:?}").starts_with("JsonStream(Scripted {"));
    assert_eq!(events.into_inner().items.len(), 1);
}

#[test]
fn a_try_recv_returns_what_is_queued_and_ends_as_a_receive() {
    let cause = Error::new(ErrorKind::Connect, "lost");
    let script = [sent("1"), None, sent("x"), Some(Err(cause))];
    let mut events = JsonStream::<_, u8>::new(Scripted::new(script));
    let mut next = || events.try_recv().map(|event| event.map(short));
    assert_eq!(next().unwrap().as_deref(), Some("value 1"));
    assert_eq!(next().unwrap(), None);
    assert_eq!(next().unwrap().as_deref(), Some("invalid x"));
    assert_eq!(next().unwrap_err().kind(), ErrorKind::Connect);
    assert_eq!(next().unwrap_err().kind(), ErrorKind::Closed);
}
