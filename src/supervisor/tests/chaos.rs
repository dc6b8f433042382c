//! Whatever happens on several links, in whatever order.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Open,
    Failed,
    Eof,
    Closed,
    Bytes(Vec<u8>),
    /// What was asked is answered as it should be.
    Serve,
    Fence,
    Command(Command),
    Time(u64),
    UntilDue,
    Consume,
    Hook(bool),
}

/// On the link that was opened so many before the last.
fn step() -> impl Strategy<Value = (u32, Step)> {
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
    let ends = [Command::Drain { within: Duration::from_secs(3) }, Command::Close];
    let step = prop_oneof![
        10 => Just(Step::Open),
        30 => Just(Step::Serve),
        10 => Just(Step::Fence),
        4 => (1..6_usize).prop_map(|n| Step::Bytes(A1.repeat(n))),
        2 => Just(Step::Bytes([ERROR, READY].concat())),
        1 => vec(select(words.to_vec()), 1..3).prop_map(|words| Step::Bytes(words.concat())),
        1 => select(vec![Step::Failed, Step::Eof, Step::Closed]),
        8 => select(commands.to_vec()).prop_map(Step::Command),
        1 => select(ends.to_vec()).prop_map(Step::Command),
        2 => (0..20_000_u64).prop_map(Step::Time),
        6 => Just(Step::UntilDue),
        6 => Just(Step::Consume),
        4 => prop::bool::weighted(0.8).prop_map(Step::Hook),
    ];
    (0..3_u32, step)
}

impl Shell {
    fn random_step(&mut self, back: u32, step: Step) {
        let last = self.supervisor.links;
        self.on(last.saturating_sub(back).max(1));
        match step {
            Step::Open => self.open(),
            Step::Failed => self.event(broken()),
            Step::Eof => self.event(LinkEvent::Eof),
            Step::Closed => self.event(LinkEvent::Closed),
            Step::Bytes(bytes) if self.wire().reading() => self.read(&bytes),
            Step::Serve if self.wire().reading() => drop(self.serve()),
            Step::Fence if self.wire().reading() => {
                let fence = self.fence();
                self.read(&fence);
            }
            Step::Bytes(_) | Step::Serve | Step::Fence => {}
            Step::Command(command) => self.command(command),
            Step::Time(ms) => self.pass_all(Duration::from_millis(ms)),
            Step::UntilDue => {
                if self.supervisor.poll_timeout().is_some() {
                    self.pass_all(self.due_in());
                }
            }
            Step::Consume => self.consume(4),
            Step::Hook(well) => {
                let failed = || Err(Error::new(ErrorKind::Misuse, "no"));
                self.hook(if well { Ok(()) } else { failed() });
            }
        }
    }

    /// What one deadline brings about may be late itself, but that comes to an end.
    fn pass_all(&mut self, time: Duration) {
        self.now += time;
        for _ in 0..4 {
            self.supervisor.handle_timeout(self.now, &mut self.queue);
            self.act();
            if self.supervisor.poll_timeout().is_none_or(|due| due > self.now) {
                return;
            }
        }
        panic!("a deadline stays due");
    }

    /// Nothing is held back once there is nothing left to wait for.
    fn is_stuck(&self) -> bool {
        let supervisor = &self.supervisor;
        let is_live = supervisor.current.as_ref().is_some_and(Link::is_live);
        let waits = supervisor.handover.is_running() || !supervisor.hook.is_idle();
        self.queue.held && is_live && !waits
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Never more than three links, and none at the end; no deadline that stays due; done once; every command
    /// answered once; nothing held back for ever.
    #[test]
    fn a_listener_that_comes_back_and_rotates_ends_once_and_answers_everything(
        has_hook in any::<bool>(),
        rotates in any::<bool>(),
        steps in vec(step(), 0..150),
    ) {
        let policy = Policy {
            hook: has_hook.then_some(HOOK),
            heartbeat: Heartbeat { every: Duration::from_secs(10), deadline: Duration::from_secs(8) },
            max_lifetime: rotates.then_some(Duration::from_secs(60)),
            ..lasting()
        };
        let mut shell = Shell::new(policy);
        shell.queue.lies = true;
        shell.open();
        shell.serve();
        let mut asked = Vec::new();
        let mut log = Vec::new();
        let ends = [Step::Command(Command::Close), Step::Time(2_000), Step::Time(1)];
        for (back, step) in steps.into_iter().chain(ends.map(|step| (0, step))) {
            if matches!(&step, Step::Command(command) if *command != Command::Close) {
                asked.push(shell.commands);
            }
            shell.random_step(back, step);
            prop_assert!(!shell.is_stuck());
            log.append(&mut shell.log);
        }
        prop_assert_eq!(shell.supervisor.state(), State::Closed);
        prop_assert_eq!(shell.supervisor.poll_timeout(), None);
        let count = |what: &str| log.iter().filter(|line| line.starts_with(what)).count();
        prop_assert_eq!((count("done"), count("Closed")), (1, 1));
        let mut answered: Vec<u64> =
            log.iter().filter_map(|line| line.split(':').next()?.parse().ok()).collect();
        answered.sort_unstable();
        prop_assert_eq!(answered, asked);
    }
}
