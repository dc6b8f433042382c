//! A test driver: it carries bytes, time and actions, and records what the supervisor does.

use std::collections::BTreeMap;

use super::queue::TestQueue;
use super::search::LOOKED_AT;
use super::server::Wire;
use super::*;

pub(super) struct TestDriver {
    pub(super) supervisor: Supervisor<TestQueue>,
    began: Instant,
    pub(super) now: Instant,
    /// The link that the next calls are about.
    pub(super) link: LinkId,
    pub(super) log: Vec<String>,
    pub(super) logged: Vec<LogEvent>,
    pub(super) commands: u64,
    wires: BTreeMap<LinkId, Wire>,
    /// The links that were opened and not aborted.
    alive: BTreeSet<LinkId>,
    /// The link whose notifications are delivered.
    delivered: Option<LinkId>,
    /// The channels that the server refuses.
    pub(super) refused: BTreeSet<String>,
    /// The last private channel, and the nonce on it.
    pub(super) private: String,
    pub(super) nonce: String,
    /// True if a cancelled run of the hook goes on, so that the next one waits for it.
    pub(super) is_hook_late: bool,
    is_refusing: bool,
}

impl TestDriver {
    /// Creates a driver whose supervisor opens its first link.
    pub(super) fn new(policy: Policy) -> Self {
        let now = Instant::now();
        let mut driver = Self {
            supervisor: Supervisor::new(
                TestQueue::new(4),
                (now, SystemTime::UNIX_EPOCH),
                [1; 32],
                policy,
            ),
            began: now,
            now,
            link: LinkId(u32::MAX),
            log: Vec::new(),
            logged: Vec::new(),
            commands: 0,
            wires: BTreeMap::new(),
            alive: BTreeSet::new(),
            delivered: None,
            refused: BTreeSet::new(),
            private: "?".to_owned(),
            nonce: String::new(),
            is_hook_late: false,
            is_refusing: false,
        };
        driver.act();
        assert_eq!(driver.take_log(), ["open 1"]);
        driver
    }

    /// Creates a driver whose socket is open. The server has sent nothing.
    pub(super) fn opened(policy: Policy) -> Self {
        let mut driver = Self::new(policy);
        driver.event(LinkEvent::Opened(session(driver.now)));
        driver
    }

    /// Creates a driver whose channel is active.
    pub(super) fn connected(policy: Policy) -> Self {
        let mut driver = Self::opened(policy);
        driver.read(PRELUDE);
        assert_eq!(driver.take_sent(), ["startup", r#"LISTEN "a""#]);
        driver.read(&[LISTEN, READY].concat());
        driver.wire().listening.insert("a".to_owned());
        assert_eq!(driver.take_log(), ["Connected"]);
        driver
    }

    /// Sets the link that the next calls are about.
    pub(super) fn on(&mut self, link: u32) -> &mut Self {
        self.link = LinkId(link);
        self
    }

    pub(super) fn wire(&mut self) -> &mut Wire {
        self.wires.entry(self.link).or_default()
    }

    /// Returns the supervisor, which knows the time.
    pub(super) fn input(&mut self) -> &mut Supervisor<TestQueue> {
        self.supervisor.set_now(self.now);
        &mut self.supervisor
    }

    pub(super) fn event(&mut self, event: LinkEvent) {
        let link = self.link;
        self.input().handle_link(link, event);
        self.act();
    }

    /// Opens the link with a session that is logged in.
    pub(super) fn open(&mut self) {
        self.event(LinkEvent::Opened(ready(self.now)));
    }

    pub(super) fn read(&mut self, bytes: &[u8]) {
        self.wire().input.extend_from_slice(bytes);
        self.handle_bytes(self.link);
        self.act();
    }

    fn handle_bytes(&mut self, link: LinkId) {
        let mut input = std::mem::take(&mut self.wires.entry(link).or_default().input);
        let now = self.now;
        let received_at = self.wall_clock();
        let taken = self.supervisor.sink.taken;
        self.supervisor.set_time(now, received_at);
        self.supervisor.handle_bytes(received_at, link, &mut input);
        assert!(
            taken == self.supervisor.sink.taken || self.delivered.is_none_or(|one| one == link)
        );
        self.wires.entry(link).or_default().input = input;
        assert!(self.supervisor.sink.published);
        assert_eq!(self.supervisor.sink.taken, self.supervisor.counters().received);
    }

    /// Returns the time of day.
    pub(super) fn wall_clock(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.now.saturating_duration_since(self.began)
    }

    pub(super) fn command(&mut self, command: Command) {
        let id = CommandNumber(self.commands);
        self.commands += 1;
        self.input().handle_command(id, command);
        self.act();
    }

    /// Ends the hook.
    pub(super) fn hook(&mut self, result: Result<(), Error>) {
        self.input().handle_hook(result);
        self.act();
    }

    /// Takes notifications as the consumer.
    pub(super) fn consume(&mut self, n: usize) {
        self.supervisor.sink.unread = self.supervisor.sink.unread.saturating_sub(n);
        self.input().handle_room();
        self.act();
    }

    /// Lets this time pass at once.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.input().handle_timeout();
        self.act();
        let due = self.supervisor.poll_timeout();
        assert!(due.is_none_or(|due| due > self.now), "still due");
    }

    /// Returns the time until the next deadline.
    pub(super) fn due_in(&self) -> Duration {
        let due = self.supervisor.poll_timeout().expect("a deadline");
        due.saturating_duration_since(self.now)
    }

    /// Lets the time until the next deadline pass.
    pub(super) fn pass_until_due(&mut self) {
        self.pass(self.due_in());
    }

    pub(super) fn act(&mut self) {
        let mut last_state = None;
        while let Some(action) = self.supervisor.poll_action() {
            let line = match action {
                Action::Open { link } => {
                    self.link = link;
                    self.alive.insert(link);
                    assert!(self.alive.len() <= 3, "{:?}", self.alive);
                    format!("open {}", link.0)
                }
                Action::Read { link, on } => {
                    self.wires.entry(link).or_default().unread = !on;
                    if on {
                        self.handle_bytes(link);
                    }
                    format!("read {} {on}", link.0)
                }
                Action::Deliver { link } => {
                    self.delivered = Some(link);
                    continue;
                }
                Action::Log(event) => {
                    self.logged.push(event);
                    continue;
                }
                Action::RefuseCommands(_) => {
                    assert!(!self.is_refusing, "commands are refused twice");
                    self.is_refusing = true;
                    continue;
                }
                Action::Release { number } => {
                    if self.supervisor.prepare_release(number) {
                        self.supervisor.release();
                    }
                    continue;
                }
                Action::RunHook(live) => {
                    if !self.is_hook_late {
                        self.input().handle_hook_begun();
                    }
                    match live {
                        Live::Start => "hook".to_owned(),
                        Live::AfterGap(gap) => format!("hook after {gap}"),
                    }
                }
                Action::CancelHook => "cancel hook".to_owned(),
                Action::Close { link, how } => {
                    if how == Close::Abort {
                        self.alive.remove(&link);
                    }
                    format!("close {} {how:?}", link.0)
                }
                Action::Reply { id, result } => match result {
                    Ok(Reply::Listening(listening)) => format!("{}: {listening:?}", id.0),
                    Ok(Reply::Unlistened) => format!("{}: Unlistened", id.0),
                    Ok(reply @ (Reply::Rotating | Reply::Drained)) => {
                        format!("{}: {reply:?}", id.0)
                    }
                    Ok(Reply::Rows(rows)) => format!("{}: {} results", id.0, rows.len()),
                    Err(error) => format!("{}: {error:#}", id.0),
                },
                Action::State(state) => {
                    last_state = Some(state);
                    format!("{state:?}")
                }
                Action::Done(result) => {
                    assert_eq!(self.alive, BTreeSet::new(), "a link is left");
                    assert!(!self.supervisor.sink.held, "what has arrived is shown");
                    match result {
                        Ok(()) => "done".to_owned(),
                        Err(error) => format!("done: {error:#}"),
                    }
                }
            };
            self.log.push(line);
        }
        assert_eq!(self.is_refusing, self.supervisor.refusal().is_some());
        assert!(last_state.is_none_or(|state| state == self.supervisor.state()));
        for (&link, wire) in &mut self.wires {
            if let Some(out) = self.supervisor.transmit(link) {
                wire.sent.extend(out.split());
            }
        }
        if let Some(out) = self.supervisor.transmit(self.link) {
            let sent = out.split();
            self.wire().sent.extend(sent);
        }
    }

    pub(super) fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    /// Returns the answer to the first command.
    pub(super) fn first_reply(&mut self) -> String {
        let log = self.take_log();
        log.iter().find(|line| line.starts_with("0: ")).unwrap_or_else(|| panic!("{log:?}")).clone()
    }

    pub(super) fn take_queue(&mut self) -> Vec<String> {
        std::mem::take(&mut self.supervisor.sink.log)
    }

    pub(super) fn seen(&mut self) -> Vec<String> {
        self.supervisor.sink.take_seen()
    }

    pub(super) fn take_gaps(&mut self) -> Vec<Gap> {
        std::mem::take(&mut self.supervisor.sink.gaps)
    }

    pub(super) fn channels(&self) -> Vec<String> {
        self.supervisor.channels().map(|(name, how)| format!("{name} {how:?}")).collect()
    }
}

/// Takes one notification at a time of a long run. Returns the number of notifications that were searched.
pub(super) fn looked_at_in_a_run_without_room(driver: &mut TestDriver) -> usize {
    LOOKED_AT.set(0);
    driver.read(&A1.repeat(400));
    for _ in 0..400 {
        driver.consume(1);
    }
    assert_eq!((driver.supervisor.sink.taken, driver.supervisor.sink.lost), (400, 0));
    LOOKED_AT.get()
}
