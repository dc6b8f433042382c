//! Receives from a subscription with every method, and compares with its model.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use super::super::clock::SimulatorEvent;
use super::super::{Simulation, log_line};
use super::subscriber::{Subscriber, SubscriberStage};
use crate::error::{Error, ErrorKind};
use crate::hub::Subscription;
use crate::notification::{Event, Gap, Loss};

/// An event that was received.
enum Received {
    Notification { sequence: u64, process_id: i32, epoch: u32, channel: String, payload: String },
    Lagged(u64, u64),
    Gap(Gap),
}

impl From<Loss> for Received {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::Gap(gap) => Self::Gap(gap),
            Loss::Lagged(lagged) => Self::Lagged(lagged.first_sequence(), lagged.count()),
        }
    }
}

impl From<Event> for Received {
    fn from(event: Event) -> Self {
        match event {
            Event::Gap(gap) => Loss::Gap(gap).into(),
            Event::Lagged(lagged) => Loss::Lagged(lagged).into(),
            Event::Notification(one) => Self::Notification {
                sequence: one.sequence(),
                process_id: one.process_id(),
                epoch: one.epoch(),
                channel: one.channel().to_owned(),
                payload: one.payload().to_owned(),
            },
        }
    }
}

/// The result of one poll.
enum Polled {
    Nothing { will_wake: bool },
    Events(Vec<Received>),
    End(Option<Error>),
}

impl Polled {
    fn of(polled: Poll<Result<Event, Error>>) -> Self {
        match polled {
            Poll::Ready(Ok(event)) => Self::Events(vec![event.into()]),
            Poll::Ready(Err(error)) => Self::End(Some(error)),
            Poll::Pending => Self::Nothing { will_wake: true },
        }
    }
}

fn poll_once(
    subscription: &mut Subscription,
    way: u64,
    max: usize,
    cx: &mut Context<'_>,
) -> Polled {
    match way {
        0 => match subscription.try_recv() {
            Ok(Some(event)) => Polled::Events(vec![event.into()]),
            Ok(None) => Polled::Nothing { will_wake: false },
            Err(error) => Polled::End(Some(error)),
        },
        1 => match Pin::new(subscription).poll_next(cx) {
            Poll::Ready(None) => Polled::End(None),
            Poll::Ready(Some(item)) => Polled::of(Poll::Ready(item)),
            Poll::Pending => Polled::Nothing { will_wake: true },
        },
        2 => Polled::of(subscription.poll_recv(cx)),
        3 => Polled::of(pin!(subscription.recv()).poll(cx)),
        // The future is dropped after one poll, which must not lose anything.
        _ => match pin!(subscription.recv_batch_max(max)).poll(cx) {
            Poll::Ready(Ok(batch)) => {
                let loss = batch.loss().cloned().map(Received::from);
                let notifications = batch.iter().map(|one| Received::Notification {
                    sequence: one.sequence(),
                    process_id: one.process_id(),
                    epoch: one.epoch(),
                    channel: String::from_utf8_lossy(one.channel_bytes()).into_owned(),
                    payload: String::from_utf8_lossy(one.payload_bytes()).into_owned(),
                });
                Polled::Events(loss.into_iter().chain(notifications).collect())
            }
            Poll::Ready(Err(error)) => Polled::End(Some(error)),
            Poll::Pending => Polled::Nothing { will_wake: true },
        },
    }
}

impl Simulation {
    /// Receives some events. Returns whether the subscriber stays.
    pub(super) fn receive_some(&mut self, number: usize, subscriber: &mut Subscriber) -> bool {
        let Some(hub) = &mut self.hub else { return true };
        let mut most = if self.is_calm { 1_000 } else { hub.random.size(64) };
        while most > 0 && self.failure.is_none() {
            let Some(hub) = &mut self.hub else { return true };
            let (way, max) = (hub.random.below(6), hub.random.index(9));
            let max = if way == 5 { usize::MAX } else { max };
            let waker = Waker::from(subscriber.waker.clone());
            let SubscriberStage::Receiving(subscription) = &mut subscriber.stage else {
                return true;
            };
            match poll_once(subscription, way, max, &mut Context::from_waker(&waker)) {
                Polled::Nothing { will_wake: true } => {
                    subscriber.is_asleep = true;
                    return true;
                }
                Polled::Nothing { will_wake: false } => most -= 1,
                Polled::Events(events) => {
                    hub.counts.batches += u64::from(events.len() > 1);
                    most -= 1;
                    for event in events {
                        self.was_received(number, subscriber, event);
                    }
                }
                Polled::End(error) => {
                    if self.received_end_of_hub(number, subscriber, error.as_ref()) {
                        return false;
                    }
                }
            }
        }
        if let Some(hub) = &mut self.hub {
            let delay = hub.random.range(1, 1_000);
            self.clock.after(delay, SimulatorEvent::Subscriber(number), &mut hub.random);
        }
        true
    }

    fn was_received(&mut self, number: usize, subscriber: &mut Subscriber, event: Received) {
        let shown = subscriber.choice.shown(&self.sink.get());
        let is_first = std::mem::take(&mut subscriber.must_begin_with_gap);
        let is_gap = matches!(event, Received::Gap(_));
        if is_first && !is_gap {
            return self
                .fail(format!("subscriber {number} was pending, and does not begin with a gap"));
        }
        let Subscriber { model, choice, .. } = subscriber;
        let Some(hub) = &mut self.hub else { return };
        let counts = &mut hub.counts;
        let result = match event {
            Received::Notification { sequence, process_id, epoch, channel, payload } => {
                counts.delivered += 1;
                counts.delivered_topics += u64::from(choice.topic.is_some());
                counts.delivered_filtered += u64::from(!choice.prefix.is_empty());
                counts.delivered_of_several += u64::from(choice.channels.len() > 1);
                match self.channels.find(&channel) {
                    Some(id) => model.receive(sequence, (id, process_id, epoch), &payload, shown),
                    None => Err(format!("the channel {channel:?} is unknown")),
                }
            }
            Received::Lagged(first, count) => {
                log_line!(self, "subscriber {number}: {count} lost from {first}");
                match choice.drops_oldest {
                    true => counts.lagged_oldest += count,
                    false => counts.lagged_newest += count,
                }
                model.lag(first, count, choice)
            }
            Received::Gap(gap) => {
                log_line!(self, "subscriber {number}: {gap}");
                counts.gaps += 1;
                model.miss(gap.sessions(), gap.epoch())
            }
        };
        if let Err(wrong) = result {
            self.fail(format!("subscriber {number}: {wrong}"));
        }
    }

    /// Handles the end of the stream. Returns whether it was the last result.
    fn received_end_of_hub(
        &mut self,
        number: usize,
        subscriber: &mut Subscriber,
        error: Option<&Error>,
    ) -> bool {
        let text = error.map(Error::to_string);
        log_line!(self, "subscriber {number}: the end, {text:?}");
        if !self.has_task_ended {
            self.fail(format!("subscriber {number} received the end too early: {text:?}"));
        }
        let left = subscriber.model.expected.len();
        if left > 0 {
            let next = format!("{:?}", subscriber.model.expected.front());
            self.fail(format!("subscriber {number} received the end before {left} events: {next}"));
        }
        let has_cause = std::mem::replace(&mut subscriber.has_cause, true);
        match &self.done {
            Some(Err(cause)) if !has_cause => {
                if text != Some(cause.to_string()) {
                    self.fail(format!(
                        "subscriber {number} received {text:?}, and the cause is {cause}"
                    ));
                }
                false
            }
            _ => {
                if error.is_some_and(|error| error.kind() != ErrorKind::Closed) {
                    self.fail(format!("subscriber {number} received {text:?} after the end"));
                }
                true
            }
        }
    }
}
