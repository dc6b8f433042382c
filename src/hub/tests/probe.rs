//! [`HubProbe`]: a hub without a task of its own, for the simulator, and a view of its inner state.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::super::channel::{HubChannel, ListenState, Needed};
use super::super::handle::HubHandle;
use super::super::keeper::keep;
use super::super::mailbox::Mailbox;
use super::super::shared::HubShared;
use super::super::sink::HubSink;
use super::super::topic_rules::TopicRules;
use crate::listener::ListenerHandle;
use crate::listener::shared::ListenerShared;
use crate::notification::TopicOf;
use crate::proto::supervisor::Sink;
use crate::queue::ReceiveBuffers;

/// The sink of a hub, whose type is private.
pub(crate) trait HubSinkParts: Sink + ReceiveBuffers {}

impl HubSinkParts for HubSink {}

/// The parts of a hub. The simulator gives the sink to a supervisor, and polls the keeper.
pub(crate) struct HubParts {
    pub(crate) handle: HubHandle,
    pub(crate) sink: Box<dyn HubSinkParts>,
    pub(crate) keeper: Pin<Box<dyn Future<Output = ()>>>,
    pub(crate) probe: HubProbe,
}

impl HubParts {
    pub(crate) fn new(
        listener: ListenerHandle,
        shared: Arc<ListenerShared>,
        topics_of: HashMap<String, TopicOf>,
    ) -> Self {
        let topics = TopicRules { topics_of, ..TopicRules::default() };
        let shared = Arc::new(HubShared::new(topics, shared));
        Self {
            handle: HubHandle::new(shared.clone(), listener.clone()),
            sink: Box::new(HubSink::new(shared.clone())),
            keeper: Box::pin(keep(shared.clone(), listener)),
            probe: HubProbe { shared },
        }
    }
}

/// Looks at the state of a hub.
pub(crate) struct HubProbe {
    shared: Arc<HubShared>,
}

/// The state of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChannelView {
    /// LISTEN was answered.
    pub(crate) is_active: bool,
    /// The server refuses it in the current session.
    pub(crate) is_refused: bool,
    pub(crate) is_unlistening: bool,
    pub(crate) subscriptions: usize,
    pub(crate) waiting: usize,
}

impl HubProbe {
    /// Returns the channels, each with its state.
    pub(crate) fn channels(&self) -> BTreeMap<String, ChannelView> {
        let routes = self.shared.lock();
        let view = |channel: &HubChannel| ChannelView {
            is_active: channel.listen == ListenState::Active,
            is_refused: channel.refusal.is_some(),
            is_unlistening: channel.listen == ListenState::Unlistening,
            subscriptions: channel.subscriptions,
            waiting: channel.waiting.len(),
        };
        routes.channels.iter().map(|(name, channel)| (name.to_string(), view(channel))).collect()
    }

    /// Returns whether there are commands to send.
    pub(crate) fn has_changes(&self) -> bool {
        self.shared.lock().has_changes()
    }

    /// Returns whether everything is held back.
    pub(crate) fn is_held(&self) -> bool {
        self.shared.lock().is_held
    }

    /// Returns what is wrong with the state of the routes and mailboxes, whenever nothing has locked them.
    pub(crate) fn wrong(&self) -> Option<String> {
        let routes = self.shared.lock();
        let mut joined = BTreeSet::new();
        for (name, channel) in &routes.channels {
            let mailboxes: Vec<&Arc<Mailbox>> = channel.mailboxes().collect();
            let members = mailboxes.len();
            joined.extend(mailboxes.iter().map(|mailbox| Arc::as_ptr(mailbox).addr()));
            // An UNLISTEN that was refused is sent again with the next command.
            let needs = channel.needed() != Needed::Nothing
                && channel.change.is_none()
                && !routes.is_postponed(name);
            // A group that was refused is sent again in parts, so its channels are not changed.
            let wrong = if channel.subscriptions != members + self.waiting_for(&routes, name) {
                "has another number of subscriptions"
            } else if channel.topics.values().any(|topic| topic.as_slice().is_empty()) {
                "has a topic without subscriptions"
            } else if needs && !routes.is_refusing() {
                "needs a command, and is not changed"
            } else if channel.is_unused() {
                "is unused"
            } else if !channel.waiting.is_empty()
                && channel.change.is_none()
                && matches!(channel.listen, ListenState::Idle | ListenState::Active)
            {
                "has a waiting subscription, and nothing is sent"
            } else if channel.change.is_some() != routes.is_changed(name) {
                "is in the list of changes and is not, or the other way round"
            } else if let Some(wrong) = mailboxes.iter().find_map(|mailbox| mailbox.wrong()) {
                wrong
            } else {
                continue;
            };
            return Some(format!("the channel {name:?} of the hub {wrong}: {channel:?}"));
        }
        let count = routes.subscriptions;
        (count != joined.len())
            .then(|| format!("{} have joined, {count} are counted", joined.len()))
    }

    /// Returns how many subscriptions to a channel wait, for it or for another channel.
    fn waiting_for(&self, routes: &super::super::routes::Routes, channel: &str) -> usize {
        routes
            .waiting_routes()
            .filter(|routes| routes.iter().any(|route| *route.channel == *channel))
            .count()
    }

    /// Returns the number of subscriptions that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.lock().waiting_routes().count()
    }
}
