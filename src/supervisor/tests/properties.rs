//! Whatever happens, in whatever order.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Opened,
    Failed,
    Eof,
    Closed,
    /// An event of another link.
    Late,
    Bytes(Vec<u8>),
    Command(Command),
    Time(u64),
    Consume(usize),
    Compute,
}

fn step() -> impl Strategy<Value = Step> {
    let words =
        [A1, A1, A1, LISTEN, LISTEN, UNLISTEN, SELECT, READY, READY, READY, IN_TRANSACTION, ERROR];
    let word = prop_oneof![
        20 => select(words.map(<[u8]>::to_vec).to_vec()),
        4 => Just([LISTEN, READY].concat()),
        4 => Just([SELECT, READY].concat()),
        4 => (1..9_usize).prop_map(|n| A1.repeat(n)),
        1 => Just(FATAL.to_vec()),
        1 => vec(any::<u8>(), 0..9),
    ];
    let commands = [
        listen(&["a"]),
        listen(&["b", "c"]),
        listen(&[""]),
        unlisten(&["a"]),
        unlisten(&["c"]),
        Command::UnlistenAll,
        query("SELECT 1"),
        query("BEGIN"),
        query("\0"),
    ];
    prop_oneof![
        2 => Just(Step::Opened),
        1 => select(vec![Step::Failed, Step::Eof, Step::Closed, Step::Late]),
        20 => vec(word, 1..5).prop_map(|words| Step::Bytes(words.concat())),
        10 => select(commands.to_vec()).prop_map(Step::Command),
        1 => Just(Step::Command(Command::Close)),
        2 => (0..3_000_u64).prop_map(Step::Time),
        3 => (0..5_usize).prop_map(Step::Consume),
        1 => Just(Step::Compute),
    ]
}

fn overflow() -> impl Strategy<Value = Overflow> {
    select(vec![
        Overflow::Block { max_stall: Duration::from_secs(1) },
        Overflow::Block { max_stall: Duration::MAX },
        Overflow::DropNewest,
    ])
}

impl Shell {
    fn step(&mut self, step: Step) {
        match step {
            Step::Opened => self.event(LinkEvent::Opened(session(self.now))),
            Step::Failed => self.event(LinkEvent::Failed(Error::new(ErrorKind::Connect, "x"))),
            Step::Eof => self.event(LinkEvent::Eof),
            Step::Closed => self.event(LinkEvent::Closed),
            Step::Late => {
                let link = std::mem::replace(&mut self.link, LinkId(99));
                self.event(LinkEvent::Eof);
                self.link = link;
            }
            // A shell reads only when it is told to.
            Step::Bytes(bytes) if self.wire().reading() => self.read(&bytes),
            Step::Bytes(_) => {}
            Step::Command(command) => self.command(command),
            Step::Time(ms) => self.pass(Duration::from_millis(ms)),
            Step::Consume(n) => self.consume(n),
            Step::Compute => {
                self.supervisor.compute(self.now, &mut self.queue);
                self.act();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// No panic; done exactly once, and nothing after it; every command answered exactly once; every
    /// notification that was received came into the queue, or was counted as lost by it.
    #[test]
    fn a_listener_ends_once_and_answers_everything(
        overflow in overflow(),
        begin_connected in prop::bool::weighted(0.7),
        steps in vec(step(), 0..60),
    ) {
        let policy = Policy { overflow, ..policy() };
        let mut shell =
            if begin_connected { Shell::connected(policy) } else { Shell::opened(policy) };
        let mut asked = Vec::new();
        let mut over = false;
        for step in steps.into_iter().chain([
            Step::Command(Command::Close),
            Step::Time(2_000),
            Step::Command(listen(&["late"])),
            Step::Opened,
            Step::Bytes(A1.to_vec()),
            Step::Time(60_000),
        ]) {
            let id = shell.commands;
            let before = (shell.log.len(), shell.queue.log.len(), shell.wire().sent.len());
            if matches!(&step, Step::Command(command) if *command != Command::Close) {
                asked.push(id);
            }
            let is_command = matches!(step, Step::Command(_));
            shell.step(step);
            if over {
                // Only the answer to a command that came too late.
                prop_assert!(shell.log.len() - before.0 <= usize::from(is_command));
                prop_assert_eq!((shell.queue.log.len(), shell.wire().sent.len()), (before.1, before.2));
                prop_assert_eq!(shell.supervisor.poll_timeout(), None);
            }
            over = shell.supervisor.state() == State::Closed;
            let reading = shell.supervisor.state() == State::Closed || shell.wire().reading();
            prop_assert_eq!(!reading, shell.supervisor.flow.is_stalled() && !over);
            let queue = &shell.queue;
            prop_assert_eq!(queue.taken, shell.supervisor.figures().received);
        }
        prop_assert!(over);
        let count = |what: &str| shell.log.iter().filter(|line| line.starts_with(what)).count();
        prop_assert_eq!(count("done"), 1);
        prop_assert_eq!(count("Closed"), 1);
        prop_assert!(shell.supervisor.current.as_ref().is_none_or(|link| link.in_flight.is_empty()) && shell.supervisor.waiting.is_empty());
        let mut answered: Vec<u64> =
            shell.log.iter().filter_map(|line| line.split(':').next()?.parse().ok()).collect();
        answered.sort_unstable();
        prop_assert_eq!(answered, asked);
        shell.take_sent();
    }

    /// What came in one read or in many ends in the same answers and the same wishes.
    #[test]
    fn any_split_of_what_the_server_says_ends_the_same(
        commands in vec(select(vec![
            listen(&["b", "c"]), unlisten(&["a"]), unlisten(&["c"]), Command::UnlistenAll,
        ]), 0..6),
        refused in vec(any::<bool>(), 6),
        cuts in vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut answer = Vec::new();
        for (command, refused) in commands.iter().zip(refused) {
            let word = match command {
                _ if refused => ERROR.to_vec(),
                Command::Listen(_) => LISTEN.repeat(2),
                _ => UNLISTEN.to_vec(),
            };
            answer.extend([&word[..], READY, A1].concat());
        }
        let stream = [A1, &answer[..]].concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        cuts.sort_unstable();
        let outcome = |cuts: &[usize]| {
            let overflow = Overflow::DropNewest;
            let mut shell = Shell::opened(Policy { overflow, ..policy() });
            shell.read(PRELUDE);
            shell.read(&[LISTEN, READY].concat());
            for command in &commands {
                shell.command(command.clone());
            }
            let mut from = 0;
            for cut in cuts.iter().copied().chain([stream.len()]) {
                shell.read(&stream[from..cut]);
                from = cut;
            }
            (shell.take_log(), shell.take_sent(), shell.channels())
        };
        prop_assert_eq!(outcome(&cuts), outcome(&[]));
    }
}
