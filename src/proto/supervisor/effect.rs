//! What follows from an input. The parts of a supervisor return effects, and the loop in [`apply`](super::apply) applies
//! them in their order.

use super::action::LinkId;
use super::link::ListenerLink;
use super::purpose::Answered;
use super::sink::Scope;
use crate::error::Error;

/// The effects of one input, in their order. The effects of an effect are applied before the next one.
pub(super) type Effects = Vec<Effect>;

/// No effect.
pub(super) const NONE: Effects = Vec::new();

#[derive(Debug)]
pub(super) enum Effect {
    // ---- links ----
    /// A link has failed: the consequences depend on its role.
    Fail(LinkId, Error),
    /// A link is aborted. Its commands get the error.
    Abandon(Box<ListenerLink>, Error),
    /// A session can carry out commands.
    SessionReady(LinkId),

    // ---- restore ----
    /// LISTEN for every wanted channel is sent on a session, and for the private channel of a handover.
    Restore { link: LinkId, private: Option<String> },
    /// The session becomes live, if every wanted channel is active or refused by now.
    CheckLive(LinkId),
    /// The current session has become live, and no handover is running.
    Live,

    // ---- commands ----
    /// The answer to a command is complete.
    Answer(Box<Answered>),
    /// Everything that waited for the end of a command or of a handover is started, if it can be.
    Proceed,
    /// The waiting commands are started in their order, up to the first one that must still wait.
    StartWaiting,

    // ---- heartbeat ----
    /// A heartbeat is sent, if it is due and no command is in flight.
    SendDueHeartbeat,
    /// A heartbeat is sent. `listening_to` is the private channel whose LISTEN is in flight; the expected answer includes it.
    SendHeartbeat { listening_to: Option<String> },
    /// The query of a heartbeat was refused, and a simpler one is sent.
    SimplerHeartbeat { is_required: bool },
    /// The server has refused every query of a heartbeat.
    HeartbeatRefused(Error),
    /// The self-notification is complete if NOTIFY was answered and the notification has come back.
    CheckSelfNotification,

    // ---- handover ----
    /// A handover is prepared, if both sessions are ready for it.
    PrepareHandover,
    /// The old session listens to every channel, the private one too.
    OldConfirmed,
    /// The fence notification is sent, if both sessions are prepared.
    SendFence,
    /// The old session was delivered up to the fence notification.
    OldPassed,
    /// The new session was discarded up to the fence notification.
    NewPassed,
    /// The new session is the only one, and is delivered. The private channel is left.
    EndHandover { private: String },
    /// The old session goes on, and the handover is tried again later.
    GiveUpHandover(Error),
    /// What the server dropped during a handover is reported, if the handover is over.
    ReportDropped,

    // ---- losses ----
    /// The server reports that it has dropped a notification in a session that goes on.
    NotificationDropped(LinkId, Error),
    /// Notifications may be missing here. `sessions` is the number of sessions that were lost.
    Outage { cause: Error, sessions: u32, scope: Scope },
    /// Enters the state for a live session whose notifications are held back, if there is an outage.
    CatchUp,

    // ---- the end ----
    /// The listener ends with an error while its session is live.
    CloseBecause(Error),
}
