//! [`Plan`]: the settings of a run, chosen from the seed.

use std::time::Duration;

use super::chaos::ONE_WAY_TIMEOUT;
use super::clock::{MILLI, Micros, SECOND};
use super::random::SimulatorRandom;
use crate::proto::session::READ_DELAY_MAX;
use crate::proto::supervisor::{Heartbeat, HookPolicy, Overflow, Owner, Policy, Reconnect};

/// The limit of the command queue of a listener.
pub(super) const QUEUE_BYTES: usize = 1024 * 1024;

#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) servers: usize,
    pub(super) channels: usize,
    /// The number of channels that are wanted from the start.
    pub(super) initial: usize,
    pub(super) capacity: u64,
    pub(super) bytes: usize,
    pub(super) overflow: Overflow,
    /// The limit of the command queue.
    pub(super) queue_bytes: usize,
    pub(super) connect_timeout: Micros,
    pub(super) close_timeout: Micros,
    /// The shortest and longest delay before an attempt. `None` if the listener does not reconnect.
    pub(super) delays: Option<(Micros, Micros)>,
    pub(super) retry_refusals: bool,
    pub(super) every: Micros,
    pub(super) deadline: Micros,
    pub(super) lifetime: Option<Micros>,
    pub(super) has_hook: bool,
    /// The longest time of a run of the hook, and the highest number of its consecutive failures.
    pub(super) hook_timeout: Micros,
    pub(super) hook_failures_max: Option<u32>,
    /// Each session is ended soon after it is live.
    pub(super) flaps: bool,
    /// The time at which the user ends the listener.
    pub(super) ends_at: Option<Micros>,
    /// The time at which the runtime of the listener ends.
    pub(super) drops_at: Option<Micros>,
    /// The time from which nothing breaks.
    pub(super) calm: Micros,
    /// Mean times between two commits, commands and failures. Zero means never.
    pub(super) commits: Micros,
    pub(super) commands: Micros,
    pub(super) chaos: Micros,
    /// The longest usual time of a packet on its way.
    pub(super) delay: Micros,
    /// The share of packets that are split, in percent.
    pub(super) splits: u64,
    /// The longest usual time from a wake-up of the consumer to its poll.
    pub(super) laziness: Micros,
    /// The consumer sometimes pauses for seconds.
    pub(super) naps: bool,
    /// The delay of every timer.
    pub(super) lateness: Micros,
    /// Sometimes the writers write so much that reads are delayed.
    pub(super) is_dense: bool,
    /// A proxy listens in place of its clients: the server cannot name the channels of a session.
    pub(super) is_proxied: bool,
    /// It is a run of a hub.
    pub(super) is_hub: bool,
    /// A proxy begins transactions.
    pub(super) begins: bool,
    /// A proxy ends sessions with an ERROR.
    pub(super) ends_with_error: bool,
}

impl Plan {
    pub(super) fn new(random: &mut SimulatorRandom) -> Self {
        // A generator of its own, so that the runs of all other seeds stay the same.
        let mut apart = random.apart();
        let is_proxied = apart.chance(20);
        let (begins, ends_with_error) = (apart.chance(10), apart.chance(10));
        let is_dense = apart.chance(4);
        let queue_bytes = if apart.chance(60) {
            // From one call, whatever its size, to several ones.
            apart.pick(&[512, 700, 1_200, 2_500])
        } else {
            QUEUE_BYTES
        };
        let channels = match random.below(20) {
            0 => random.range(65, 300),
            1..4 => random.range(8, 40),
            _ => random.range(1, 7),
        };
        let overflow = match random.below(4) {
            0 => Overflow::DropNewest,
            1 => Overflow::DropOldest,
            _ => {
                let max_stall = random.pick(&[10, 100, 1_000, 5_000]);
                Overflow::Block { max_stall: Duration::from_millis(max_stall) }
            }
        };
        let often = |random: &mut SimulatorRandom, from: Micros, to: Micros| random.range(from, to);
        let plan = Self {
            servers: random.pick(&[1, 1, 2, 3]),
            channels: usize::try_from(channels).unwrap(),
            initial: random.index(usize::try_from(channels).unwrap() + 1),
            capacity: if random.chance(30) { random.size(4) } else { random.size(256) },
            bytes: usize::try_from(random.pick(&[1_024, 4_096, 65_536])).unwrap(),
            overflow,
            queue_bytes,
            connect_timeout: random.range(1, 5) * SECOND,
            close_timeout: SECOND,
            delays: random
                .chance(95)
                .then(|| (random.range(5, 200) * MILLI, random.pick(&[500, 1_000, 3_000]) * MILLI)),
            retry_refusals: random.chance(50),
            every: random.range(1, 8) * SECOND,
            deadline: random.range(1, 4) * SECOND,
            lifetime: random.chance(30).then(|| random.range(500, 6_000) * MILLI),
            has_hook: random.chance(30),
            hook_timeout: random.pick(&[600 * MILLI, 30 * SECOND]),
            hook_failures_max: random.chance(10).then(|| random.pick(&[1, 2, 5])),
            flaps: random.chance(5),
            ends_at: random.chance(15).then(|| random.range(0, 15_000) * MILLI),
            drops_at: random.chance(8).then(|| random.range(0, 15_000) * MILLI),
            calm: random.range(3, 20) * SECOND,
            commits: often(random, 100 * MILLI, 1_500 * MILLI),
            commands: if random.chance(70) { often(random, 300 * MILLI, 4 * SECOND) } else { 0 },
            chaos: if random.chance(90) { often(random, SECOND, 6 * SECOND) } else { 0 },
            delay: random.pick(&[MILLI / 10, MILLI, 10 * MILLI, 100 * MILLI]),
            splits: random.pick(&[0, 10, 50]),
            laziness: random.pick(&[10, MILLI, 50 * MILLI, 500 * MILLI]),
            naps: random.chance(30),
            lateness: 0,
            is_dense,
            is_proxied,
            is_hub: false,
            begins,
            ends_with_error,
        };
        // In a slow network the packets of a dense flow would arrive together.
        let delay = if is_dense { MILLI / 10 } else { plan.delay };
        Self { delay, ..plan }
    }

    /// Returns the plan of a hub: it begins without channels, and never stalls.
    pub(super) fn of_hub(random: &mut SimulatorRandom) -> Self {
        let plan = Self::new(random);
        let channels = plan.channels.min(12);
        let overflow = Overflow::DropNewest;
        Self { is_hub: true, channels, initial: 0, overflow, commands: plan.commands, ..plan }
    }

    /// Returns a plan without random failures and commands.
    pub(super) fn quiet() -> Self {
        Self {
            servers: 1,
            channels: 2,
            initial: 2,
            capacity: 100,
            bytes: 65_536,
            overflow: Overflow::DropOldest,
            queue_bytes: QUEUE_BYTES,
            connect_timeout: 3 * SECOND,
            close_timeout: SECOND,
            delays: Some((100 * MILLI, SECOND)),
            retry_refusals: false,
            every: 5 * SECOND,
            deadline: 4 * SECOND,
            lifetime: None,
            has_hook: false,
            hook_timeout: 30 * SECOND,
            hook_failures_max: None,
            flaps: false,
            ends_at: None,
            drops_at: None,
            calm: 6 * SECOND,
            commits: 500 * MILLI,
            commands: 0,
            chaos: 0,
            delay: MILLI,
            splits: 0,
            laziness: MILLI,
            naps: false,
            lateness: 0,
            is_dense: false,
            is_proxied: false,
            is_hub: false,
            begins: false,
            ends_with_error: false,
        }
    }

    /// Returns the longest time to recover from any failure.
    pub(super) fn recovery(&self) -> Micros {
        // A dead peer is detected by a heartbeat, by the timeout of a command, or by the kernel.
        ONE_WAY_TIMEOUT + self.back()
    }

    /// Returns the longest time to reconnect after a loss was detected.
    pub(super) fn back(&self) -> Micros {
        let (_, longest) = self.delays.unwrap_or_default();
        // Two attempts, of which the first may time out, and two runs of the hook.
        let back = 2 * (longest + self.connect_timeout) + 2 * (longest + SECOND);
        // A handover without progress is given up after its timeout.
        back + 30 * SECOND
    }

    pub(super) fn policy(&self, channels: Vec<String>) -> Policy {
        Policy {
            channels,
            overflow: self.overflow,
            connect_timeout: Duration::from_micros(self.connect_timeout),
            close_timeout: Duration::from_micros(self.close_timeout),
            reconnect: self.delays.map(|(min, max)| Reconnect {
                min: Duration::from_micros(min),
                max: Duration::from_micros(max),
                retry_refusals: self.retry_refusals,
            }),
            heartbeat: Heartbeat {
                interval: Duration::from_micros(self.every),
                timeout: Duration::from_micros(self.deadline),
            },
            max_lifetime: self.lifetime.map(Duration::from_micros),
            read_delay: READ_DELAY_MAX,
            hook: self.has_hook.then_some(HookPolicy {
                timeout: Duration::from_micros(self.hook_timeout),
                failures_max: self.hook_failures_max,
            }),
            owner: Owner::Listener,
        }
    }
}
