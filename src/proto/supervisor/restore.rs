//! Restore: LISTEN for every wanted channel on a new session.
//!
//! ```text
//!                 begin                         every group answered
//! session ready ─────────▶ groups of channels ─────────────────────▶ live
//!                             │ a group is refused      ▲
//!                             └─▶ its channels one by one (those that are refused again are remembered)
//! ```

use std::collections::BTreeSet;

use super::action::LinkId;
use super::common::Common;
use super::effect::{Effect, Effects, NONE};
use super::links::Role;
use super::purpose::CommandPurpose;
use crate::error::Error;
use crate::proto::session::Answer;

/// The number of channels in one query. If one of them is refused, these are sent again one by one.
const GROUP_CHANNELS: usize = 64;

/// Sends LISTEN for every wanted channel on a new session, in pipelined groups, and then for the private channel.
pub(super) fn begin(
    common: &mut Common,
    wanted: &BTreeSet<String>,
    id: LinkId,
    private: Option<String>,
) -> Effects {
    let now = common.now;
    let Some(link) = common.links.find(id) else { return NONE };
    let wanted: Vec<&String> = wanted.iter().collect();
    for group in wanted.chunks(GROUP_CHANNELS) {
        let sent = link.start(now, CommandPurpose::Restore, |session| session.listen(now, group));
        if let Err(error) = sent {
            return vec![Effect::Fail(id, error)];
        }
    }
    if let Some(channel) = private {
        let sent = link.start(now, CommandPurpose::ListenPrivate, |session| {
            session.listen_owned(now, vec![channel])
        });
        if let Err(error) = sent {
            return vec![Effect::Fail(id, error)];
        }
    }
    vec![Effect::CheckLive(id)]
}

/// Handles the answer to a group.
pub(super) fn answered(
    common: &mut Common,
    id: LinkId,
    channels: Vec<String>,
    result: Answer,
) -> Effects {
    let now = common.now;
    let error = match result {
        Ok(_) => return NONE,
        // The error is not about a channel: a standby, a shutdown, a timeout.
        Err(error) if is_temporary(&error) => return vec![Effect::Fail(id, error)],
        Err(error) => error,
    };
    let Some(link) = common.links.find(id) else { return NONE };
    if let [channel] = channels.as_slice() {
        link.refused.insert(channel.clone(), error.brief());
        return NONE;
    }
    // One by one, so that only the bad ones are refused.
    for channel in channels {
        let sent = link.start(now, CommandPurpose::Restore, |session| {
            session.listen_owned(now, vec![channel])
        });
        if let Err(error) = sent {
            return vec![Effect::Fail(id, error)];
        }
    }
    NONE
}

/// Makes the session live, if every wanted channel is active or refused by now.
pub(super) fn check_live(common: &mut Common, id: LinkId, in_handover: bool) -> Effects {
    let now = common.now;
    let role = common.links.role(id);
    let Some(link) = common.links.find(id) else { return NONE };
    let is_restoring = link.live_since.is_none() && link.ready().is_some();
    if !is_restoring || link.in_flight.values().any(CommandPurpose::delays_live) {
        return NONE;
    }
    link.live_since = Some(now);
    match role {
        _ if in_handover => vec![Effect::SendFence],
        Some(Role::Current) => vec![Effect::Live],
        _ => NONE,
    }
}

/// Returns true if a later attempt may succeed. 57014 and 55P03 are timeouts.
pub(super) fn is_temporary(error: &Error) -> bool {
    error.is_transient() || matches!(error.sqlstate(), Some("57014" | "55P03"))
}
