//! [`Filter`]: which notifications a subscription receives, of those on its channels and topics.

use bytes::{Bytes, BytesMut};

use crate::net::SessionProcessId;
use crate::proto::wire::{self, RawNotification, Run};

/// A sender whose notifications a subscription does not receive.
#[derive(Debug, Clone)]
pub(super) enum IgnoredSender {
    /// A process id.
    Process(i32),
    /// The session of a notifier.
    Session(SessionProcessId),
}

impl IgnoredSender {
    fn is(&self, process_id: i32) -> bool {
        match self {
            Self::Process(ignored) => *ignored == process_id,
            Self::Session(current) => current.get() == Some(process_id),
        }
    }
}

/// The filter of a subscription.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// What the payload begins with.
    pub(super) prefix: Box<[u8]>,
    pub(super) ignored: Vec<IgnoredSender>,
}

impl Filter {
    fn accepts(&self, raw: &RawNotification<'_>) -> bool {
        raw.payload.starts_with(&self.prefix)
            && !self.ignored.iter().any(|sender| sender.is(raw.process_id))
    }

    /// Returns the accepted ones of `run`: the same bytes if these are all, otherwise a copy.
    pub(super) fn apply(&self, frames: Bytes, run: Run) -> (Bytes, Run) {
        let mut accepted = Run::default();
        for raw in wire::frames(&frames).filter(|raw| self.accepts(raw)) {
            accepted.count += 1;
            accepted.bytes += wire::frame_bytes(&raw);
        }
        if accepted.count == run.count {
            return (frames, run);
        }
        // A queue counts the bytes of the frames: the copy has no more memory than that.
        let (mut copy, mut rest) = (BytesMut::with_capacity(accepted.bytes), &frames[..]);
        while let Some((raw, bytes)) = wire::first(rest).filter(|_| copy.len() < accepted.bytes) {
            let (frame, next) = rest.split_at(bytes.min(rest.len()));
            if self.accepts(&raw) {
                copy.extend_from_slice(frame);
            }
            rest = next;
        }
        (copy.freeze(), accepted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An earlier version ignored it also after the end of the session, when the server may give the process id to another one.
    #[cfg(feature = "testing")]
    #[tokio::test]
    async fn the_process_id_of_a_notifier_that_has_ended_is_not_ignored() {
        use crate::notifier::Notifier;
        use crate::testing::{BackendConfig, Server};
        let server = Server::start(BackendConfig::new()).await.unwrap();
        let notifier = Notifier::connect(server.url()).await.unwrap();
        let ignored = IgnoredSender::Session(notifier.session_process_id().clone());
        let process_id = notifier.process_id().unwrap();
        assert!(ignored.is(process_id));
        notifier.clone().close().await;
        assert!(!ignored.is(process_id));
        assert_eq!(notifier.process_id(), Some(process_id));
    }
}
