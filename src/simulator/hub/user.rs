//! The user of a hub: subscribes and leaves, at random.

use super::super::clock::{MILLI, SimulatorEvent};
use super::super::subscriptions::ChannelId;
use super::super::{Simulation, log_line};
use super::model::Choice;
use super::payloads::TOPICS;
use super::subscriber::Subscriber;
use crate::hub::Subscribe;
use crate::proto::supervisor::{Overflow, State};

/// What payloads of a filtered subscription begin with.
const PREFIXES: [&str; 5] = ["0", "a", "again", "0:1", "b:"];

impl Simulation {
    /// Sends a command of the user to the hub that is no subscribe.
    pub(in super::super) fn call_something_of_hub(&mut self) {
        match self.random.below(100) {
            0..60 => self.ask("SELECT 1; SELECT 'two'"),
            _ => self.rotate(),
        }
    }

    pub(in super::super) fn use_hub(&mut self) {
        if self.is_calm || self.has_all {
            return;
        }
        let Some(hub) = &mut self.hub else { return };
        let delay = hub.random.range(1, 2 * hub.actions);
        self.clock.after(delay, SimulatorEvent::HubUser, &mut hub.random);
        if hub.random.chance(2) {
            self.had_failures = true;
            self.refuse();
        }
        let Some(hub) = &mut self.hub else { return };
        // A hub can be used after it has connected.
        if self.entered[State::Connected as usize] == 0 {
            return;
        }
        let many = if hub.random.chance(2) { hub.random.range(5, 60) } else { 1 };
        for _ in 0..many {
            let Some(hub) = &mut self.hub else { return };
            let most = if many > 1 { 80 } else { hub.subscribers_max };
            match hub.random.below(100) {
                0..60 if hub.subscribers.len() < most => self.subscribe_somewhere(),
                _ => self.leave_one(),
            }
        }
    }

    fn leave_one(&mut self) {
        let Some(hub) = &mut self.hub else { return };
        let numbers: Vec<usize> = hub.subscribers.keys().copied().collect();
        if !numbers.is_empty() {
            let number = hub.random.pick(&numbers);
            self.leave(number);
        }
    }

    fn choice(&mut self) -> Option<Choice> {
        let count = self.channels.0.len();
        let primary = &self.servers[self.primary];
        let next = primary.next_process_id();
        let random = &mut self.hub.as_mut()?.random;
        // Few channels have most of the subscriptions.
        let one = |random: &mut super::super::random::SimulatorRandom| -> ChannelId {
            if random.chance(50) { random.index(count.min(2)) } else { random.index(count) }
        };
        let mut channels = vec![one(random)];
        let topic = random.chance(40).then(|| random.pick(&TOPICS).to_owned());
        if topic.is_none() && random.chance(30) {
            channels.extend((0..random.range(1, 4)).map(|_| one(random)));
            channels.sort_unstable();
            channels.dedup();
        }
        let names = self.channels.names(&channels);
        Some(Choice {
            channels,
            names,
            topic,
            prefix: if random.chance(20) { random.pick(&PREFIXES) } else { "" },
            ignored: random.chance(5).then(|| next + i32::try_from(random.below(20)).unwrap()),
            capacity: usize::try_from(if random.chance(50) { random.size(8) } else { 1_024 })
                .unwrap(),
            bytes: if random.chance(30) { 8 * 1024 } else { 1024 * 1024 },
            drops_oldest: random.chance(50),
        })
    }

    fn subscribe_somewhere(&mut self) {
        let Some(choice) = self.choice() else { return };
        let Some(hub) = &mut self.hub else { return };
        let number = hub.next_subscriber;
        hub.next_subscriber += 1;
        let names = choice.names.clone();
        log_line!(self, "subscriber {number}: {choice:?}");
        let subscribe = match (&choice.topic, &names[..]) {
            (Some(topic), [name]) => hub.handle.subscribe_topic(name, topic),
            (_, [name]) => hub.handle.subscribe(name),
            (_, names) => hub.handle.subscribe_many(names),
        };
        let naps = hub.random.chance(10);
        let views = hub.probe.channels();
        for view in names.iter().filter_map(|name| views.get(name)) {
            let counts = &mut hub.counts;
            counts.behind_unlisten += u64::from(view.is_unlistening);
            counts.joined_a_listen += u64::from(!view.is_active && view.waiting > 0);
            counts.asked_again += u64::from(view.is_active && view.is_refused);
        }
        hub.counts.while_held += u64::from(hub.probe.is_held());
        let mut subscriber = Subscriber::new(choice.clone(), settings(subscribe, &choice), naps);
        if self.continue_subscribe(number, &mut subscriber)
            && let Some(hub) = &mut self.hub
        {
            let is_waiting = !subscriber.is_receiving();
            hub.subscribers.insert(number, subscriber);
            // Some leave in the middle.
            if is_waiting && hub.random.chance(20) {
                let patience = hub.random.range(1, 20 * self.plan.delay.max(MILLI));
                self.clock.after(patience, SimulatorEvent::Leave(number), &mut hub.random);
            }
        }
    }
}

fn settings(subscribe: Subscribe, choice: &Choice) -> Subscribe {
    let overflow = if choice.drops_oldest { Overflow::DropOldest } else { Overflow::DropNewest };
    let subscribe = subscribe
        .queue_capacity(choice.capacity)
        .queue_bytes(choice.bytes)
        .overflow(overflow)
        .payload_prefix(choice.prefix);
    match choice.ignored {
        Some(process_id) => subscribe.ignore_process_id(process_id),
        None => subscribe,
    }
}
