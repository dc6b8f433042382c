//! Random events on one link.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

#[derive(Debug, Clone)]
enum RandomStep {
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

fn step() -> impl Strategy<Value = RandomStep> {
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
        2 => Just(RandomStep::Opened),
        1 => select(vec![RandomStep::Failed, RandomStep::Eof, RandomStep::Closed, RandomStep::Late]),
        20 => vec(word, 1..5).prop_map(|words| RandomStep::Bytes(words.concat())),
        10 => select(commands.to_vec()).prop_map(RandomStep::Command),
        1 => Just(RandomStep::Command(Command::Close)),
        2 => (0..3_000_u64).prop_map(RandomStep::Time),
        3 => (0..5_usize).prop_map(RandomStep::Consume),
        1 => Just(RandomStep::Compute),
    ]
}

fn overflow() -> impl Strategy<Value = Overflow> {
    select(vec![
        Overflow::Block { max_stall: Duration::from_secs(1) },
        Overflow::Block { max_stall: Duration::MAX },
        Overflow::DropNewest,
    ])
}

impl TestDriver {
    fn step(&mut self, step: RandomStep) {
        match step {
            RandomStep::Opened => self.event(LinkEvent::Opened(session(self.now))),
            RandomStep::Failed => {
                self.event(LinkEvent::Failed(Error::new(ErrorKind::Connect, "x")));
            }
            RandomStep::Eof => self.event(LinkEvent::Eof),
            RandomStep::Closed => self.event(LinkEvent::Closed),
            RandomStep::Late => {
                let link = std::mem::replace(&mut self.link, LinkId(99));
                self.event(LinkEvent::Eof);
                self.link = link;
            }
            // A driver reads only if it was asked to.
            RandomStep::Bytes(bytes) if self.wire().reading() => self.read(&bytes),
            RandomStep::Bytes(_) => {}
            RandomStep::Command(command) => self.command(command),
            RandomStep::Time(ms) => self.pass(Duration::from_millis(ms)),
            RandomStep::Consume(n) => self.consume(n),
            RandomStep::Compute => {
                self.input().compute();
                self.act();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// There is no panic. The listener ends exactly once, and does nothing afterwards. Every command is answered
    /// exactly once. Every notification that was received was put into the queue, or counted by it as dropped.
    #[test]
    fn a_listener_ends_once_and_answers_everything(
        overflow in overflow(),
        begin_connected in prop::bool::weighted(0.7),
        steps in vec(step(), 0..60),
    ) {
        let policy = Policy { overflow, ..policy() };
        let mut driver =
            if begin_connected { TestDriver::connected(policy) } else { TestDriver::opened(policy) };
        let mut asked = Vec::new();
        let mut over = false;
        for step in steps.into_iter().chain([
            RandomStep::Command(Command::Close),
            RandomStep::Time(2_000),
            RandomStep::Command(listen(&["late"])),
            RandomStep::Opened,
            RandomStep::Bytes(A1.to_vec()),
            RandomStep::Time(60_000),
        ]) {
            let id = driver.commands;
            let before = (driver.log.len(), driver.supervisor.sink.log.len(), driver.wire().sent.len());
            if matches!(&step, RandomStep::Command(command) if *command != Command::Close) {
                asked.push(id);
            }
            let is_command = matches!(step, RandomStep::Command(_));
            driver.step(step);
            if over {
                // There may be only the answer to a command that came too late.
                prop_assert!(driver.log.len() - before.0 <= usize::from(is_command));
                prop_assert_eq!((driver.supervisor.sink.log.len(), driver.wire().sent.len()), (before.1, before.2));
                prop_assert_eq!(driver.supervisor.poll_timeout(), None);
            }
            over = driver.supervisor.state() == State::Closed;
            let reading = driver.supervisor.state() == State::Closed || driver.wire().reading();
            prop_assert_eq!(!reading, driver.supervisor.flow.is_stalled() && !over);
            let queue = &driver.supervisor.sink;
            prop_assert_eq!(queue.taken, driver.supervisor.counters().received);
        }
        prop_assert!(over);
        let count = |what: &str| driver.log.iter().filter(|line| line.starts_with(what)).count();
        prop_assert_eq!(count("done"), 1);
        prop_assert_eq!(count("Closed"), 1);
        prop_assert!(driver.supervisor.common.links.current.as_ref().is_none_or(|link| link.in_flight.is_empty()) && driver.supervisor.waiting.is_empty());
        let mut answered: Vec<u64> =
            driver.log.iter().filter_map(|line| line.split(':').next()?.parse().ok()).collect();
        answered.sort_unstable();
        prop_assert_eq!(answered, asked);
        driver.take_sent();
    }

    /// Any split of the server's bytes leads to the same answers and the same wanted channels.
    #[test]
    fn any_split_of_the_servers_bytes_has_the_same_result(
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
            let mut driver = TestDriver::opened(Policy { overflow, ..policy() });
            driver.read(PRELUDE);
            driver.read(&[LISTEN, READY].concat());
            for command in &commands {
                driver.command(command.clone());
            }
            let mut from = 0;
            for cut in cuts.iter().copied().chain([stream.len()]) {
                driver.read(&stream[from..cut]);
                from = cut;
            }
            (driver.take_log(), driver.take_sent(), driver.channels())
        };
        prop_assert_eq!(outcome(&cuts), outcome(&[]));
    }
}
