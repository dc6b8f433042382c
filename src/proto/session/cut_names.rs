//! Names that the server cuts: a LISTEN for one is undone, and an UNLISTEN for one must not end another channel.

use std::collections::BTreeSet;
use std::time::Instant;

use super::Session;
use super::command::{CommandId, CommandKind};
use super::commands::statements;
use crate::error::Error;
use crate::proto::wire::FrontendMessage;
use crate::proto::wire::limits::CHANNEL_BYTES_MAX;

/// The longest name that fits into every encoding, in bytes: a character that is not ASCII has at least 2
/// bytes in UTF-8, and at most 4 bytes in any encoding of a server.
const FITTING_NAME_BYTES: usize = CHANNEL_BYTES_MAX / 2;

impl Session {
    /// Returns true if the name may be too long in the encoding of the database.
    pub(super) fn may_be_cut(&self, name: &str) -> bool {
        name.len() > FITTING_NAME_BYTES && !name.is_ascii() && !self.parameters.is_database_utf8()
    }

    /// Returns the channels, besides `names`, that an UNLISTEN for `names` ends if the server cuts one of them.
    pub(super) fn also_ended_by(&self, names: &[String]) -> Vec<String> {
        // The name of an active channel was not cut.
        let is_long = |name: &&String| self.may_be_cut(name) && !self.channels.contains(*name);
        let mut long = names.iter().filter(is_long).peekable();
        if long.peek().is_none() {
            return Vec::new();
        }
        let channels = self.channels_after_pending();
        let prefixes = long.flat_map(|name| {
            name.char_indices().filter_map(|(bytes, _)| channels.get(name.get(..bytes)?))
        });
        let ended: BTreeSet<_> = prefixes.filter(|channel| !names.contains(channel)).collect();
        ended.into_iter().cloned().collect()
    }

    /// Undoes a LISTEN for channels of which the server has cut one name.
    ///
    /// The server does not report which one. It also cuts the name of an UNLISTEN, which may then end another channel:
    /// an active one, or one whose LISTEN is in flight. Those are listened to again in the same transaction, so that
    /// nothing is missed.
    pub(super) fn undo(&mut self, now: Instant, channels: &[String]) -> Result<(), Error> {
        let is_new = |channel: &&String| !self.channels.contains(*channel);
        let names: Vec<String> = channels.iter().filter(is_new).cloned().collect();
        if names.is_empty() {
            return Ok(());
        }
        let is_meant =
            |channel: &String| names.iter().any(|name| name.starts_with(channel.as_str()));
        let kept: Vec<String> =
            self.channels_after_pending().into_iter().filter(is_meant).collect();
        self.unlisten_and_keep(now, names, kept).map(drop)
    }

    /// Sends UNLISTEN for `names`, then LISTEN for the channels in `kept`, in one transaction.
    pub(super) fn unlisten_and_keep(
        &mut self,
        now: Instant,
        names: Vec<String>,
        kept: Vec<String>,
    ) -> Result<CommandId, Error> {
        let mut sql = statements("UNLISTEN ", &names)?;
        if kept.is_empty() {
            return self.command(
                now,
                CommandKind::Unlisten(names),
                &[FrontendMessage::Query(&sql)],
            );
        }
        sql.push(';');
        sql.push_str(&statements("LISTEN ", &kept)?);
        self.command(now, CommandKind::Undo { names, kept }, &[FrontendMessage::Query(&sql)])
    }

    /// Returns the channels of the session after the commands in flight are carried out.
    fn channels_after_pending(&self) -> BTreeSet<String> {
        let mut channels = self.channels.clone();
        for pending in &self.pending {
            match &pending.kind {
                CommandKind::Listen(more) => channels.extend(more.iter().cloned()),
                CommandKind::Unlisten(fewer) => channels.retain(|one| !fewer.contains(one)),
                CommandKind::UnlistenAll => channels.clear(),
                CommandKind::Undo { names, kept } => {
                    channels.retain(|one| !names.contains(one) || kept.contains(one));
                }
                CommandKind::Simple | CommandKind::Bound | CommandKind::Utility(_) => {}
            }
        }
        channels
    }
}
