//! The channels that the user wants to listen to.
//!
//! ```text
//!            listen                       LISTEN answered           unlisten
//! unwanted ─────────▶ wanted, pending ────────────────────▶ active ─────────▶ unwanted
//!                        ▲        │ the server refuses it      │
//!                        │        └──────────▶ refused         │
//!                        └───────────────────────┴─────────────┘ a new session
//! ```
//! A session has the active channels, its link the refused ones ([`restore`](super::restore)). The wanted channels are here,
//! and outlive both.

use std::collections::BTreeSet;

use super::action::{CHANNELS_WARNED, ChannelState, Listening, LogEvent, Reply};
use super::common::Common;
use super::link::ListenerLink;
use super::purpose::Change;
use crate::proto::session::{Rows, Session};

#[derive(Debug)]
pub(super) struct Channels {
    wanted: BTreeSet<String>,
    /// The warning about their number was logged.
    is_warned: bool,
}

impl Channels {
    pub(super) fn new(wanted: impl Iterator<Item = String>) -> Self {
        Self { wanted: wanted.collect(), is_warned: false }
    }

    /// Returns the wanted channels, sorted.
    pub(super) fn wanted(&self) -> &BTreeSet<String> {
        &self.wanted
    }

    /// Returns the wanted channels, sorted, each with its state on this link.
    pub(super) fn states<'a>(
        &'a self,
        link: Option<&'a ListenerLink>,
    ) -> impl Iterator<Item = (&'a str, ChannelState)> {
        let session = link.and_then(ListenerLink::session);
        let confirmed: BTreeSet<&str> = session.into_iter().flat_map(Session::channels).collect();
        self.wanted.iter().map(move |name| {
            let refusal = link.and_then(|link| link.refused.get(name));
            let state = match refusal {
                _ if confirmed.contains(name.as_str()) => ChannelState::Active,
                Some(error) => ChannelState::Refused(error.clone()),
                None => ChannelState::Pending,
            };
            (name.as_str(), state)
        })
    }

    /// Makes a change that the server has confirmed, or that the next session carries out (`listening` says which). Returns
    /// the answer to the command.
    pub(super) fn apply(
        &mut self,
        common: &mut Common,
        change: Change,
        channels: Vec<String>,
        rows: Vec<Rows>,
        listening: Listening,
    ) -> Reply {
        match change {
            Change::Listen => {
                forget_refusals(common, &channels);
                self.wanted.extend(channels);
                self.warn(common);
                Reply::Listening(listening)
            }
            Change::Unlisten => {
                forget_refusals(common, &channels);
                for channel in &channels {
                    self.wanted.remove(channel);
                }
                Reply::Unlistened
            }
            Change::UnlistenAll => {
                if let Some(link) = &mut common.links.current {
                    link.refused.clear();
                }
                self.wanted.clear();
                Reply::Unlistened
            }
            Change::Query => Reply::Rows(rows),
            Change::Drain => Reply::Drained,
        }
    }

    /// Makes a log event, once, if there are more wanted channels than [`CHANNELS_WARNED`] and the server is slow with them.
    pub(super) fn warn(&mut self, common: &mut Common) {
        let channels = self.wanted.len();
        if self.is_warned || channels <= CHANNELS_WARNED {
            return;
        }
        let session = common.links.current.as_ref().and_then(ListenerLink::session);
        self.is_warned = session.is_some_and(Session::has_slow_channels);
        if self.is_warned {
            common.counters.channel_warnings = 1;
            common.log(LogEvent::ManyChannels { channels });
        }
    }
}

/// Removes channels from the refused ones: the server now accepts them, or they are not wanted any more.
fn forget_refusals(common: &mut Common, channels: &[String]) {
    if let Some(link) = &mut common.links.current {
        channels.iter().for_each(|channel| drop(link.refused.remove(channel)));
    }
}
