//! Random handovers with lost sessions: nothing is delivered twice, and every loss is reported.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::notification::Gap;
use crate::proto::route::PseudoRandom;

/// Any session may be lost.
const ANY: u32 = 0;

/// Servers that carry out commands in any order, and a network that splits their answers.
struct Network {
    driver: TestDriver,
    random: PseudoRandom,
    /// The links that are up, each with the commands to be carried out and the bytes that are not read.
    up: BTreeMap<u32, (VecDeque<String>, Vec<u8>)>,
    commits: u32,
    /// Everything that the consumer has seen.
    seen: Vec<String>,
}

impl Network {
    fn new(seed: u64) -> Self {
        let mut driver = TestDriver::up(lasting());
        driver.supervisor.sink.capacity = usize::MAX;
        driver.command(Command::Rotate);
        let up = BTreeMap::from([(1, Default::default())]);
        Self { driver, random: PseudoRandom::new(seed), up, commits: 0, seen: Vec::new() }
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.random.number() % limit as u64).unwrap()
    }

    /// Carries out the actions, and moves what was sent to the servers.
    fn carry_out(&mut self) {
        for line in self.driver.take_log() {
            let number = |text: &str| text.split(' ').next().and_then(|id| id.parse().ok());
            if let Some(id) = line.strip_prefix("open ").and_then(number) {
                self.up.insert(id, Default::default());
                self.driver.on(id).open();
            } else if let Some(id) = line.strip_prefix("close ").and_then(number) {
                self.up.remove(&id);
                if line.ends_with("Graceful") {
                    self.driver.on(id).event(LinkEvent::Closed);
                }
            }
        }
        for (&id, (queue, _)) in &mut self.up {
            queue.extend(self.driver.on(id).take_sent());
        }
        self.seen.extend(self.driver.seen());
    }

    fn send(&mut self, channel: &str, bytes: &[u8]) {
        for (&id, (_, stream)) in &mut self.up {
            if self.driver.on(id).wire().listening.contains(channel) {
                stream.extend_from_slice(bytes);
            }
        }
    }

    fn commit(&mut self) {
        self.commits += 1;
        self.send("a", &notification(&self.commits.to_string()));
    }

    /// Carries out the next command of this link on its server.
    fn execute(&mut self, id: u32) -> bool {
        let Some((queue, _)) = self.up.get_mut(&id) else { return false };
        let Some(line) = queue.pop_front() else { return false };
        if line == "notify" {
            let (channel, fence) = (self.driver.private.clone(), self.driver.fence());
            self.send(&channel, &fence);
        }
        let answer = self.driver.on(id).answer(&line);
        self.up.get_mut(&id).unwrap().1.extend(answer);
        true
    }

    /// Reads some bytes of this link.
    fn read(&mut self, id: u32, most: usize) -> bool {
        let reading = self.driver.on(id).wire().reading();
        let Some((_, stream)) = self.up.get_mut(&id).filter(|_| reading) else { return false };
        let bytes: Vec<u8> = stream.drain(..most.min(stream.len())).collect();
        self.driver.on(id).read(&bytes);
        self.carry_out();
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
            22 => self.driver.command(Command::Rotate),
            23..39 => {
                let most = 1 + self.below(60);
                self.read(id, most);
            }
            _ => {
                let victim = kill.map(|victim| if victim == ANY { id } else { victim });
                if let Some(victim) = victim.filter(|victim| self.up.contains_key(victim)) {
                    self.driver.on(victim).event(broken());
                }
            }
        }
        self.carry_out();
    }

    /// Waits for the next attempt, while there is no link.
    fn wait(&mut self) {
        self.commit();
        self.driver.pass_until_due();
        self.carry_out();
    }

    /// Goes on until nothing is left to do and a session is up.
    fn finish(&mut self) {
        for _ in 0..1_000 {
            let ids: Vec<u32> = self.up.keys().copied().collect();
            let mut busy = false;
            for id in ids {
                busy |= self.execute(id);
                self.carry_out();
                busy |= self.read(id, usize::MAX);
            }
            let is_up = self.driver.supervisor.state() == State::Connected;
            if !busy && is_up && self.driver.supervisor.common.links.next.is_none() {
                return;
            }
            if !busy {
                self.driver.pass_until_due();
                self.carry_out();
            }
        }
        panic!("it does not come to an end: {:?}", self.driver.supervisor);
    }
}

/// Checks that the numbers are in order, with a gap wherever one is missing. Returns the number of gaps.
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
fn if_any_session_dies_at_any_time_nothing_is_delivered_twice_or_missing_without_a_gap() {
    let (mut handed_over, mut lost, mut given_up) = (0, 0, 0);
    for seed in 0..2_000 {
        let mut network = Network::new(seed);
        network.carry_out();
        let kill = [None, Some(1), Some(2), Some(ANY)][usize::try_from(seed % 4).unwrap()];
        for _ in 0..network.below(200) {
            network.step(kill);
        }
        network.finish();
        network.commit();
        network.finish();
        let gaps = check(&network.seen, network.commits, seed);
        let counters = network.driver.supervisor.counters();
        handed_over += counters.handovers;
        lost += counters.sessions_lost;
        let failed = |one: &&LogEvent| matches!(one, LogEvent::HandoverFailed { .. });
        given_up += network.driver.logged.iter().filter(failed).count();
        assert_eq!(gaps as u64, counters.gaps);
        let sessions: u32 = network.driver.take_gaps().iter().map(Gap::sessions).sum();
        assert_eq!(u64::from(sessions), counters.sessions_lost, "not reported, seed {seed}");
        assert!(kill.is_some() || gaps == 0, "no gap for nothing, seed {seed}");
    }
    assert!(handed_over > 500 && lost > 200 && given_up > 100, "{handed_over} {lost} {given_up}");
}
