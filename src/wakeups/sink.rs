//! [`WakeupsSink`]: wakes the tasks of the channels on which notifications arrive. It keeps their payloads as keys, and nothing else.

use std::iter;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;

use super::proof::Proof;
use super::shared::WakeupsShared;
use super::task::TaskShared;
use crate::hub::by_channel;
use crate::listener::shared::ListenerShared;
use crate::net::{self, SessionPlace};
use crate::notification::ReceiveInfo;
use crate::proto::supervisor::{PlacedGap, Scope, Sink, StreamPosition};
use crate::proto::wire::{self, Run};
use crate::queue::{ReceiveBuffers, ReusedBuffer, count_gap};

/// The sink of the listening session.
#[derive(Debug)]
pub(super) struct WakeupsSink {
    shared: Arc<WakeupsShared>,
    listener: Arc<ListenerShared>,
    proof: Option<Arc<Proof>>,
    buffer: ReusedBuffer,
    /// Notifications received.
    position: u64,
    /// Where the delivered session is.
    place: Option<SessionPlace>,
    /// It listens to all channels, and nothing is held back.
    is_live: bool,
    /// Which notifications of a part are echoes. Empty between two parts.
    is_echo: Vec<bool>,
    /// The tasks that are woken at the next publish.
    rung: Vec<Arc<TaskShared>>,
}

impl WakeupsSink {
    pub(super) fn new(
        shared: Arc<WakeupsShared>,
        listener: Arc<ListenerShared>,
        proof: Option<Arc<Proof>>,
    ) -> Self {
        let buffer = ReusedBuffer::default();
        Self {
            shared,
            listener,
            proof,
            buffer,
            position: 0,
            place: None,
            is_live: false,
            is_echo: Vec::new(),
            rung: Vec::new(),
        }
    }

    fn ring(&mut self, channel: &[u8], frames: &[u8]) {
        if let Some(proof) = self.proof.as_ref().filter(|proof| proof.is_on(channel)) {
            wire::frames(frames).for_each(|raw| proof.arrived(raw.payload));
        }
        let tasks = self.shared.tasks_of(channel);
        if tasks.is_empty() {
            return;
        }
        // One echo is that for all tasks.
        self.is_echo.clear();
        let notifications = wire::frames(frames).map(|raw| (raw.process_id, raw.payload));
        self.shared.echoes.recognize(channel, notifications, net::now(), &mut self.is_echo);
        for task in tasks {
            let mut doorbell = task.lock();
            let is_echo = self.is_echo.iter().copied().chain(iter::repeat(false));
            for (raw, is_echo) in wire::frames(frames).zip(is_echo) {
                match is_echo {
                    true => doorbell.counts.echoes += 1,
                    false => doorbell.ring(std::str::from_utf8(raw.payload).unwrap_or_default()),
                }
            }
            drop(doorbell);
            if !self.rung.iter().any(|rung| Arc::ptr_eq(rung, task)) {
                self.rung.push(task.clone());
            }
        }
    }
}

impl Sink for WakeupsSink {
    /// There is always room.
    fn fits(&self, _frames: &[u8], run: Run, _surplus: bool) -> Run {
        run
    }

    fn notifications(
        &mut self,
        input: &mut BytesMut,
        run: Run,
        _info: ReceiveInfo,
        _surplus: bool,
    ) {
        let frames = input.get(..run.bytes).unwrap_or_default();
        for part in by_channel(frames) {
            self.ring(part.key, part.frames);
        }
        self.position += run.count as u64;
        ReusedBuffer::discard(input, run.bytes);
    }

    fn publish(&mut self) {
        self.listener.set_passed_on(self.position, self.position, 0);
        self.rung.drain(..).for_each(|task| task.wake());
    }

    fn is_empty(&self) -> bool {
        true
    }

    fn hold(&mut self, scope: &Scope) -> StreamPosition {
        self.publish();
        self.is_live = false;
        self.shared.hold(scope);
        StreamPosition(self.position)
    }

    fn release(&mut self, gaps: Vec<PlacedGap>) {
        let counters = self.listener.queue();
        gaps.iter().for_each(|placed| count_gap(&counters, &placed.gap));
        self.is_live = true;
        self.shared.release(gaps, self.place.clone());
        self.publish();
    }
}

/// The receive buffer keeps nothing, so it is used again for the next read.
impl ReceiveBuffers for WakeupsSink {
    /// A new session does not listen before its release, but one that takes over without a gap does.
    fn delivers_from(&mut self, place: Option<&SessionPlace>) {
        self.place = place.cloned();
        if self.is_live {
            self.shared.echoes.listens_at(self.place.clone());
        }
    }

    fn first_buffer(&mut self) -> BytesMut {
        self.buffer.first()
    }

    fn prepare(&mut self, input: &mut BytesMut) {
        self.buffer.prepare(input);
    }

    fn handle_read(&mut self, bytes: usize) {
        self.buffer.handle_read(bytes);
    }

    fn make_room(&mut self, input: &mut BytesMut, bytes: usize) {
        self.buffer.make_room(input, bytes);
    }

    fn poll_room(&mut self, _cx: &mut Context<'_>, _input: &mut BytesMut) -> Poll<()> {
        Poll::Ready(())
    }
}

impl Drop for WakeupsSink {
    /// What is held back is not shown, and its loss is not reported: everything is read.
    fn drop(&mut self) {
        self.publish();
        self.shared.session_has_ended();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::task::WakeTask;
    use super::*;
    use crate::notifier::{Nudge, NudgeSource, NudgeTarget};
    use crate::proto::ring::Pins;
    use crate::proto::supervisor::Owner;
    use crate::proto::wire::{BackendMessage, RawNotification};

    /// Wake-ups of one task, and a notifier that sends nudges.
    struct SinkScene {
        shared: Arc<WakeupsShared>,
        sink: WakeupsSink,
    }

    fn place(address: &str) -> SessionPlace {
        SessionPlace::tcp(address.parse().unwrap(), "shop")
    }

    const HERE: &str = "127.0.0.1:5432";
    const THERE: &str = "127.0.0.2:5432";

    impl SinkScene {
        fn new() -> Self {
            let task = WakeTask::new("jobs").channel("jobs").interval(Duration::MAX);
            let shared = Arc::new(WakeupsShared::new(vec![task]));
            let listener = Arc::new(ListenerShared::new(Owner::Wakeups, Pins::new(0)));
            let sink = WakeupsSink::new(shared.clone(), listener, None);
            Self { shared, sink }
        }

        /// A session is live at this address.
        fn live(&mut self, address: &str) {
            self.sink.delivers_from(Some(&place(address)));
            self.sink.release(Vec::new());
        }

        /// A nudge is sent to this server.
        fn send(&self, address: &str) {
            let source = NudgeSource { process_id: 7, place: place(address) };
            self.shared.sent(&source, &[Nudge { channel: "jobs".into(), key: "1".into() }]);
        }

        /// A notification arrives, with the process id and the key of the nudge. Returns whether it is taken for the echo.
        fn is_echo(&mut self) -> bool {
            let raw = RawNotification { process_id: 7, channel: b"jobs", payload: b"1" };
            let mut input = BytesMut::new();
            BackendMessage::NotificationResponse(raw).encode(&mut input).unwrap();
            let run = Run { count: 1, bytes: input.len() };
            let echoes = |scene: &Self| scene.shared.task("jobs").unwrap().lock().counts.echoes;
            let before = echoes(self);
            let info = ReceiveInfo { received_at: SystemTime::UNIX_EPOCH, epoch: 1 };
            self.sink.notifications(&mut input, run, info, false);
            self.sink.publish();
            echoes(self) > before
        }
    }

    #[test]
    fn an_echo_is_expected_only_of_what_is_sent_while_a_session_listens() {
        let mut scene = SinkScene::new();
        scene.send(HERE);
        assert!(!scene.is_echo(), "no session");
        scene.sink.delivers_from(Some(&place(HERE)));
        scene.send(HERE);
        assert!(!scene.is_echo(), "it has not executed LISTEN");
        scene.sink.release(Vec::new());
        scene.send(HERE);
        assert!(scene.is_echo());
        scene.send(HERE);
        scene.sink.hold(&Scope::All);
        assert!(!scene.is_echo(), "the session was lost");
        scene.send(HERE);
        scene.live(HERE);
        assert!(!scene.is_echo(), "sent before");
    }

    /// The name of the host may be that of another server after a failover. There, any session can have the process id. An earlier
    /// version compared the names, so it swallowed a notification.
    #[test]
    fn a_notification_of_another_server_with_the_same_name_wakes() {
        let mut scene = SinkScene::new();
        scene.live(HERE);
        scene.sink.hold(&Scope::All);
        scene.live(THERE);
        // The notifier is still connected to the old one.
        scene.send(HERE);
        assert!(!scene.is_echo());
        scene.send(THERE);
        assert!(scene.is_echo());
    }

    /// It listens when it begins to deliver.
    #[test]
    fn an_echo_is_recognized_after_a_handover() {
        let mut scene = SinkScene::new();
        scene.live(HERE);
        scene.sink.delivers_from(Some(&place(THERE)));
        scene.send(HERE);
        assert!(!scene.is_echo());
        scene.send(THERE);
        assert!(scene.is_echo());
        scene.sink.delivers_from(None);
        scene.send(THERE);
        assert!(!scene.is_echo());
    }

    /// It may end before `connect` returns. An earlier version expected echoes for ever then, and kept their keys.
    #[test]
    fn nothing_is_expected_after_the_end_of_the_session() {
        let SinkScene { shared, sink } = {
            let mut scene = SinkScene::new();
            scene.live(HERE);
            scene.send(HERE);
            scene
        };
        assert!(shared.echoes.is_any());
        drop(sink);
        assert!(!shared.echoes.is_any());
        SinkScene { sink: SinkScene::new().sink, shared: shared.clone() }.send(HERE);
        assert!(!shared.echoes.is_any());
    }
}
