//! A LISTEN whose name the server has cut is taken back.

use std::collections::BTreeSet;
use std::time::Instant;

use super::Session;
use super::command::Kind;
use super::commands::statements;
use crate::Error;
use crate::wire::FrontendMessage;

impl Session {
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
        let mut sql = statements("UNLISTEN ", &names)?;
        if !kept.is_empty() {
            sql.push(';');
            sql.push_str(&statements("LISTEN ", &kept)?);
        }
        self.command(now, Kind::Undo { names, kept }, &[FrontendMessage::Query(&sql)]).map(drop)
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
                Kind::Simple | Kind::Bound => {}
            }
        }
        channels
    }
}
