//! Handovers in any order, with deaths in between: nothing is told twice, and what is lost is told.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::notification::Gap;
use crate::route::Shuffle;

/// Every session may die.
const ANY: u32 = 0;

/// Servers that carry out what they are asked in any order, and a network that brings their answers in pieces.
struct World {
    shell: Shell,
    random: Shuffle,
    /// Of each link that is up: what is to be carried out, and what was said and not read.
    up: BTreeMap<u32, (VecDeque<String>, Vec<u8>)>,
    commits: u32,
    /// Everything that was seen.
    seen: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut shell = Shell::up(lasting());
        shell.queue.capacity = usize::MAX;
        shell.command(Command::Rotate);
        let up = BTreeMap::from([(1, Default::default())]);
        Self { shell, random: Shuffle::new(seed), up, commits: 0, seen: Vec::new() }
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.random.number() % limit as u64).unwrap()
    }

    /// Sockets open and close as they are to, and what was sent arrives.
    fn settle(&mut self) {
        for line in self.shell.take_log() {
            let number = |text: &str| text.split(' ').next().and_then(|id| id.parse().ok());
            if let Some(id) = line.strip_prefix("open ").and_then(number) {
                self.up.insert(id, Default::default());
                self.shell.on(id).open();
            } else if let Some(id) = line.strip_prefix("close ").and_then(number) {
                self.up.remove(&id);
                if line.ends_with("Graceful") {
                    self.shell.on(id).event(LinkEvent::Closed);
                }
            }
        }
        for (&id, (queue, _)) in &mut self.up {
            queue.extend(self.shell.on(id).take_sent());
        }
        self.seen.extend(self.shell.seen());
    }

    fn tell(&mut self, channel: &str, bytes: &[u8]) {
        for (&id, (_, stream)) in &mut self.up {
            if self.shell.on(id).wire().listening.contains(channel) {
                stream.extend_from_slice(bytes);
            }
        }
    }

    fn commit(&mut self) {
        self.commits += 1;
        self.tell("a", &note(&self.commits.to_string()));
    }

    /// The server of this link carries out the next thing.
    fn execute(&mut self, id: u32) -> bool {
        let Some((queue, _)) = self.up.get_mut(&id) else { return false };
        let Some(line) = queue.pop_front() else { return false };
        if line == "notify" {
            let (channel, fence) = (self.shell.private.clone(), self.shell.fence());
            self.tell(&channel, &fence);
        }
        let answer = self.shell.on(id).answer(&line);
        self.up.get_mut(&id).unwrap().1.extend(answer);
        true
    }

    /// Some of what was said on this link is read.
    fn read(&mut self, id: u32, most: usize) -> bool {
        let reading = self.shell.on(id).wire().reading();
        let Some((_, stream)) = self.up.get_mut(&id).filter(|_| reading) else { return false };
        let bytes: Vec<u8> = stream.drain(..most.min(stream.len())).collect();
        self.shell.on(id).read(&bytes);
        self.settle();
        !bytes.is_empty()
    }

    fn step(&mut self, kill: Option<u32>) {
        let ids: Vec<u32> = self.up.keys().copied().collect();
        let id = match self.below(ids.len().max(1)) {
            index if index < ids.len() => ids[index],
            _ => return self.wait(),
        };
        match self.below(40) {
            0..10 => self.commit(),
            10..22 => _ = self.execute(id),
            22 => self.shell.command(Command::Rotate),
            23..39 => {
                let most = 1 + self.below(60);
                self.read(id, most);
            }
            _ => {
                let victim = kill.map(|victim| if victim == ANY { id } else { victim });
                if let Some(victim) = victim.filter(|victim| self.up.contains_key(victim)) {
                    self.shell.on(victim).event(broken());
                }
            }
        }
        self.settle();
    }

    /// Nobody is there: until the next attempt.
    fn wait(&mut self) {
        self.commit();
        self.shell.pass_until_due();
        self.settle();
    }

    /// Until nothing is left to do and a session is up.
    fn finish(&mut self) {
        for _ in 0..1_000 {
            let ids: Vec<u32> = self.up.keys().copied().collect();
            let mut busy = false;
            for id in ids {
                busy |= self.execute(id);
                self.settle();
                busy |= self.read(id, usize::MAX);
            }
            let is_up = self.shell.supervisor.state() == State::Connected;
            if !busy && is_up && self.shell.supervisor.next.is_none() {
                return;
            }
            if !busy {
                self.shell.pass_until_due();
                self.settle();
            }
        }
        panic!("it does not come to an end: {:?}", self.shell.supervisor);
    }
}

/// Numbers in order, and a gap wherever one is missing.
fn check(seen: &[String], commits: u32, seed: u64) -> usize {
    let (mut last, mut gaps, mut is_gap) = (0, 0, false);
    for what in seen {
        if what == "GAP" {
            (gaps, is_gap) = (gaps + 1, true);
            continue;
        }
        let number: u32 = what.parse().unwrap();
        assert!(number > last, "{number} after {last}: twice or out of order, seed {seed}");
        assert!(number == last + 1 || is_gap, "{number} after {last}: silent, seed {seed}");
        (last, is_gap) = (number, false);
    }
    assert_eq!(last, commits, "the last one is missing, seed {seed}");
    gaps
}

#[test]
fn whatever_dies_and_when_nothing_comes_twice_and_nothing_is_missing_without_a_gap() {
    let (mut handed_over, mut lost, mut given_up) = (0, 0, 0);
    for seed in 0..2_000 {
        let mut world = World::new(seed);
        world.settle();
        let kill = [None, Some(1), Some(2), Some(ANY)][usize::try_from(seed % 4).unwrap()];
        for _ in 0..world.below(200) {
            world.step(kill);
        }
        world.finish();
        world.commit();
        world.finish();
        let gaps = check(&world.seen, world.commits, seed);
        let figures = world.shell.supervisor.figures();
        handed_over += figures.handovers;
        lost += figures.sessions_lost;
        let failed = |one: &&Incident| matches!(one, Incident::HandoverFailed { .. });
        given_up += world.shell.told.iter().filter(failed).count();
        assert_eq!(gaps as u64, figures.gaps);
        let sessions: u32 = world.shell.take_gaps().iter().map(Gap::sessions).sum();
        assert_eq!(u64::from(sessions), figures.sessions_lost, "each is told, seed {seed}");
        assert!(kill.is_some() || gaps == 0, "no gap for nothing, seed {seed}");
    }
    assert!(handed_over > 500 && lost > 200 && given_up > 100, "{handed_over} {lost} {given_up}");
}
