//! Names that the server cuts: a LISTEN to one is taken back, and no UNLISTEN of one ends another channel.

use std::collections::BTreeSet;
use std::time::Instant;

use super::Session;
use super::command::{CommandId, Kind};
use super::commands::statements;
use crate::Error;
use crate::wire::FrontendMessage;
use crate::wire::limits::CHANNEL_BYTES_MAX;

/// A name of so many bytes fits into every encoding that a server can have: a character that is not ASCII has at least 2
/// bytes in UTF-8, and at most 4 in any of them. N160.
const FITTING_NAME_BYTES: usize = CHANNEL_BYTES_MAX / 2;

impl Session {
    /// Whether the name may be too long in the encoding of the database.
    pub(super) fn may_be_cut(&self, name: &str) -> bool {
        name.len() > FITTING_NAME_BYTES && !name.is_ascii() && !self.parameters.is_database_utf8()
    }

    /// The channels, besides `names`, that an UNLISTEN of `names` ends if the server cuts one of them.
    pub(super) fn also_ended_by(&self, names: &[String]) -> Vec<String> {
        // The name of a channel that is active was not cut.
        let is_long = |name: &&String| self.may_be_cut(name) && !self.channels.contains(*name);
        let mut long = names.iter().filter(is_long).peekable();
        if long.peek().is_none() {
            return Vec::new();
        }
        let channels = self.channels_then();
        let prefixes = long.flat_map(|name| {
            name.char_indices().filter_map(|(bytes, _)| channels.get(name.get(..bytes)?))
        });
        let ended: BTreeSet<_> = prefixes.filter(|channel| !names.contains(channel)).collect();
        ended.into_iter().cloned().collect()
    }

    /// The server listens to these channels, and has cut a name of them: which one, it does not say. It cuts that of an
    /// UNLISTEN in the same place, so that another channel may be meant then: one that is listened to, or will be by a
    /// LISTEN that is on its way. Those are listened to again in the same transaction, so that nothing is missed.
    pub(super) fn undo(&mut self, now: Instant, channels: &[String]) -> Result<(), Error> {
        let is_new = |channel: &&String| !self.channels.contains(*channel);
        let names: Vec<String> = channels.iter().filter(is_new).cloned().collect();
        if names.is_empty() {
            return Ok(());
        }
        let is_meant =
            |channel: &String| names.iter().any(|name| name.starts_with(channel.as_str()));
        let kept: Vec<String> = self.channels_then().into_iter().filter(is_meant).collect();
        self.unlisten_but(now, names, kept).map(drop)
    }

    /// UNLISTEN of `names`, then LISTEN to the channels in `kept`, in one transaction.
    pub(super) fn unlisten_but(
        &mut self,
        now: Instant,
        names: Vec<String>,
        kept: Vec<String>,
    ) -> Result<CommandId, Error> {
        let mut sql = statements("UNLISTEN ", &names)?;
        if kept.is_empty() {
            return self.command(now, Kind::Unlisten(names), &[FrontendMessage::Query(&sql)]);
        }
        sql.push(';');
        sql.push_str(&statements("LISTEN ", &kept)?);
        self.command(now, Kind::Undo { names, kept }, &[FrontendMessage::Query(&sql)])
    }

    /// What is listened to when the commands on their way are carried out.
    fn channels_then(&self) -> BTreeSet<String> {
        let mut channels = self.channels.clone();
        for pending in &self.pending {
            match &pending.kind {
                Kind::Listen(more) => channels.extend(more.iter().cloned()),
                Kind::Unlisten(fewer) => channels.retain(|one| !fewer.contains(one)),
                Kind::UnlistenAll => channels.clear(),
                Kind::Undo { names, kept } => {
                    channels.retain(|one| !names.contains(one) || kept.contains(one));
                }
                Kind::Simple | Kind::Bound | Kind::Utility(_) => {}
            }
        }
        channels
    }
}
