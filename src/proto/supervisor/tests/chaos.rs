//! Random events on several links.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

#[derive(Debug, Clone)]
enum ChaosStep {
    Open,
    Failed,
    Eof,
    Closed,
    Bytes(Vec<u8>),
    /// The server answers correctly.
    Serve,
    Fence,
    Command(Command),
    Time(u64),
    UntilDue,
    Consume,
    Hook(bool),
}

/// Returns an event, and which link it is for: 0 for the last one, 1 for the one before it.
fn step() -> impl Strategy<Value = (u32, ChaosStep)> {
    let words = [A1, LISTEN, UNLISTEN, SELECT, READY, IN_TRANSACTION, ERROR, FATAL];
    let commands = [
        listen(&["a"]),
        listen(&["b"]),
        unlisten(&["a"]),
        Command::UnlistenAll,
        query("SELECT 1"),
        Command::Rotate,
        Command::Rotate,
        Command::Rotate,
    ];
    let ends = [Command::Drain { timeout: Duration::from_secs(3) }, Command::Close];
    let step = prop_oneof![
        10 => Just(ChaosStep::Open),
        30 => Just(ChaosStep::Serve),
        10 => Just(ChaosStep::Fence),
        4 => (1..6_usize).prop_map(|n| ChaosStep::Bytes(A1.repeat(n))),
        2 => Just(ChaosStep::Bytes([ERROR, READY].concat())),
        1 => vec(select(words.to_vec()), 1..3).prop_map(|words| ChaosStep::Bytes(words.concat())),
        1 => select(vec![ChaosStep::Failed, ChaosStep::Eof, ChaosStep::Closed]),
        8 => select(commands.to_vec()).prop_map(ChaosStep::Command),
        1 => select(ends.to_vec()).prop_map(ChaosStep::Command),
        2 => (0..20_000_u64).prop_map(ChaosStep::Time),
        6 => Just(ChaosStep::UntilDue),
        6 => Just(ChaosStep::Consume),
        4 => prop::bool::weighted(0.8).prop_map(ChaosStep::Hook),
    ];
    (0..3_u32, step)
}

impl TestDriver {
    fn random_step(&mut self, back: u32, step: ChaosStep) {
        let last = self.supervisor.common.links.opened;
        self.on(last.saturating_sub(back).max(1));
        match step {
            ChaosStep::Open => self.open(),
            ChaosStep::Failed => self.event(broken()),
            ChaosStep::Eof => self.event(LinkEvent::Eof),
            ChaosStep::Closed => self.event(LinkEvent::Closed),
            ChaosStep::Bytes(bytes) if self.wire().reading() => self.read(&bytes),
            ChaosStep::Serve if self.wire().reading() => drop(self.serve()),
            ChaosStep::Fence if self.wire().reading() => {
                let fence = self.fence();
                self.read(&fence);
            }
            ChaosStep::Bytes(_) | ChaosStep::Serve | ChaosStep::Fence => {}
            ChaosStep::Command(command) => self.command(command),
            ChaosStep::Time(ms) => self.pass_all(Duration::from_millis(ms)),
            ChaosStep::UntilDue => {
                if self.supervisor.poll_timeout().is_some() {
                    self.pass_all(self.due_in());
                }
            }
            ChaosStep::Consume => self.consume(4),
            ChaosStep::Hook(well) => {
                let failed = || Err(Error::new(ErrorKind::Misuse, "no"));
                self.hook(if well { Ok(()) } else { failed() });
            }
        }
    }

    /// Lets the time pass. The consequence of a deadline may be due at once, but not again and again.
    fn pass_all(&mut self, time: Duration) {
        self.now += time;
        for _ in 0..4 {
            self.input().handle_timeout();
            self.act();
            if self.supervisor.poll_timeout().is_none_or(|due| due > self.now) {
                return;
            }
        }
        panic!("a deadline stays due");
    }

    /// Returns true if a read waits although a command is waiting, or the listener drains or closes.
    fn is_wrongly_delayed(&mut self) -> bool {
        for link in (1..=self.supervisor.common.links.opened).map(LinkId) {
            for _ in 0..2 {
                self.input().handle_read(link, 8 * 1024, true);
            }
            let supervisor = &self.supervisor;
            if supervisor.read_until(link).is_some()
                && (!supervisor.waiting.is_empty() || supervisor.ending.is_refusing())
                && supervisor.poll_timeout().is_none_or(|due| due > self.now)
            {
                return true;
            }
        }
        false
    }

    /// Returns true if the queue is held back although no command or hook is waited for. A session that leaves a transaction
    /// waits for the answer to its ROLLBACK.
    fn is_stuck(&self) -> bool {
        let supervisor = &self.supervisor;
        let is_usable = |link: &ListenerLink| link.is_live() && !link.is_leaving();
        let is_live = supervisor.common.links.current.as_ref().is_some_and(is_usable);
        let waits = supervisor.handover.is_running() || !supervisor.hook.is_idle();
        self.supervisor.sink.held && is_live && !waits
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// At most three links, and none at the end. No deadline stays due. The listener ends once. Every command is answered
    /// once. Nothing is held back without a limit.
    #[test]
    fn a_listener_that_reconnects_and_rotates_ends_once_and_answers_everything(
        has_hook in any::<bool>(),
        rotates in any::<bool>(),
        steps in vec(step(), 0..150),
    ) {
        let policy = Policy {
            hook: has_hook.then_some(HOOK),
            heartbeat: Heartbeat { interval: Duration::from_secs(10), timeout: Duration::from_secs(8) },
            max_lifetime: rotates.then_some(Duration::from_secs(60)),
            ..lasting()
        };
        let mut driver = TestDriver::new(policy);
        driver.supervisor.sink.lies = true;
        driver.open();
        driver.serve();
        let mut asked = Vec::new();
        let mut log = Vec::new();
        let ends = [ChaosStep::Command(Command::Close), ChaosStep::Time(2_000), ChaosStep::Time(1)];
        for (back, step) in steps.into_iter().chain(ends.map(|step| (0, step))) {
            if matches!(&step, ChaosStep::Command(command) if *command != Command::Close) {
                asked.push(driver.commands);
            }
            driver.random_step(back, step);
            prop_assert!(!driver.is_stuck());
            prop_assert!(!driver.is_wrongly_delayed());
            log.append(&mut driver.log);
        }
        prop_assert_eq!(driver.supervisor.state(), State::Closed);
        prop_assert_eq!(driver.supervisor.poll_timeout(), None);
        let count = |what: &str| log.iter().filter(|line| line.starts_with(what)).count();
        prop_assert_eq!((count("done"), count("Closed")), (1, 1));
        let mut answered: Vec<u64> =
            log.iter().filter_map(|line| line.split(':').next()?.parse().ok()).collect();
        answered.sort_unstable();
        prop_assert_eq!(answered, asked);
    }
}
