//! How a hub hands the blocks of a read to its subscriptions: a queue for each, or a log for each channel with a cursor for each.
//!
//! A block is pushed to a channel, and a subscription takes what its channel has. All is done on one thread, in turns: push, then take.
//! Every subscription sleeps between, so a push also collects its waker. A push includes the copy of the frames into the block, a take the
//! parsing of them. That is the same for every structure.

mod locked;
mod log;
mod queues;

use std::task::Waker;

use bytes::Bytes;
use pgbell::proto::wire;

use self::locked::Locked;
use self::log::Log;
use self::queues::{Mpsc, Seg};
use crate::held;
use crate::loads::machine;
use crate::loads::traffic::Traffic;
use crate::rounds::{Options, median};
use crate::table::Table;

/// Notifications that arrived together, and their number. Subscriptions share the bytes.
#[derive(Debug, Clone)]
pub struct Block {
    frames: Bytes,
    count: usize,
}

/// The subscriptions of one channel, or of one topic.
pub trait Structure: Sized {
    const NAME: &'static str;
    type Inbox: Inbox;

    /// Makes a channel with this number of subscriptions.
    fn open(subscriptions: usize) -> (Self, Vec<Self::Inbox>);

    /// Pushes a block to every subscription, and collects the wakers of those that sleep.
    fn push(&self, block: &Block, woken: &mut Vec<Waker>);
}

/// The consuming end of one subscription.
pub trait Inbox {
    /// Returns the next block. If there is none, the waker is kept for the next push.
    fn take(&mut self) -> Option<Block>;
}

/// Subscriptions, and what is pushed to them.
#[derive(Debug, Clone, Copy)]
struct Load {
    subscriptions: usize,
    /// Each subscription has a channel of its own. Otherwise all have the same.
    own_channels: bool,
    /// Notifications in a block.
    per_block: usize,
}

impl Load {
    fn channels(self) -> usize {
        if self.own_channels { self.subscriptions } else { 1 }
    }

    fn title(self) -> String {
        let subscriptions = self.subscriptions;
        let plural = if subscriptions == 1 { "" } else { "s" };
        match (subscriptions, self.own_channels) {
            (1, _) => "1 subscription".to_owned(),
            (_, true) => format!("{subscriptions} subscription{plural}, a topic each"),
            (_, false) => format!("{subscriptions} subscription{plural} of one channel"),
        }
    }

    /// Returns the number of blocks that are pushed before they are taken.
    fn depth(self) -> usize {
        match self.subscriptions {
            // So many that the clock does not matter.
            1 => 256,
            2..10_000 => 4,
            _ => 1,
        }
    }
}

/// The cost of a delivered notification, in nanoseconds of processor time.
#[derive(Debug, Clone, Copy)]
struct Cost {
    push: f64,
    take: f64,
}

/// Bytes of a subscription with all that belongs to it.
#[derive(Debug, Clone, Copy)]
struct Memory {
    /// It has never received anything.
    new: f64,
    /// It has received a notification, and sleeps.
    used: f64,
}

/// A structure: its cost for a number of blocks, and its memory.
struct Contestant {
    name: &'static str,
    cost: fn(Load, u64) -> Cost,
    memory: fn(Load) -> Memory,
}

fn contestant<S: Structure>() -> Contestant {
    Contestant { name: S::NAME, cost: cost::<S>, memory: memory::<S> }
}

pub fn print(options: &Options) {
    let all =
        [contestant::<Locked>(), contestant::<Log>(), contestant::<Mpsc>(), contestant::<Seg>()];
    let many = if options.test { 1_000 } else { 100_000 };
    let loads = [(1, false), (1_000, false), (1_000, true), (many, false), (many, true)];
    for (subscriptions, own_channels) in loads {
        let load = |per_block| Load { subscriptions, own_channels, per_block };
        let [dense, sparse] = [64, 1].map(|per_block| measure(options, &all, load(per_block)));
        let memories: Vec<Memory> = all.iter().map(|one| (one.memory)(load(1))).collect();
        if options.test {
            continue;
        }
        println!("\n### {}\n", load(1).title());
        let mut table = Table::new(&[
            "", "64: push", "take", "both", "1: push", "take", "both", "B new", "B used",
        ]);
        for (index, one) in all.iter().enumerate() {
            let mut row = vec![one.name.to_owned()];
            for costs in [&dense[index], &sparse[index]] {
                let of =
                    |value: fn(&Cost) -> f64| median(&costs.iter().map(value).collect::<Vec<_>>());
                let both = of(|cost| cost.push + cost.take);
                for value in [of(|cost| cost.push), of(|cost| cost.take), both] {
                    row.push(format!("{value:.1}"));
                }
            }
            row.extend([memories[index].new, memories[index].used].map(|b| format!("{b:.0}")));
            table.row(&row);
        }
        println!("{table}");
    }
}

/// Measures A B C … C B A, round after round.
fn measure(options: &Options, all: &[Contestant], load: Load) -> Vec<Vec<Cost>> {
    let blocks = options.amount(3_000_000) / if load.per_block > 1 { 4 } else { 1 };
    let mut costs = vec![Vec::new(); all.len()];
    for round in 0..options.rounds() {
        let mut order: Vec<usize> = (0..all.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            costs[index].push((all[index].cost)(load, blocks));
        }
    }
    costs
}

/// Pushes to all channels and takes from all subscriptions, in turns, until about this number of blocks is delivered.
fn cost<S: Structure>(load: Load, blocks: u64) -> Cost {
    let traffic = Traffic::of_one_channel(load.per_block.max(16));
    let bytes = traffic.read_bytes() / load.per_block.max(16) * load.per_block;
    let (channels, mut inboxes) = open::<S>(load);
    let mut woken = Vec::new();
    let (mut push, mut take) = (0.0, 0.0);
    let (mut delivered, mut payload_bytes, mut pushed) = (0_u64, 0, 0_u64);
    let each_turn = (load.subscriptions * load.depth()) as u64;
    // The first turn is not measured.
    for turn in 0..=blocks.div_ceil(each_turn) {
        let begin = machine::cpu_time();
        for _ in 0..load.depth() {
            for channel in &channels {
                let frames = Bytes::copy_from_slice(&traffic.read(pushed)[..bytes]);
                channel.push(&Block { frames, count: load.per_block }, &mut woken);
                pushed += 1;
            }
        }
        woken.drain(..).for_each(Waker::wake);
        let middle = machine::cpu_time();
        for inbox in &mut inboxes {
            while let Some(block) = inbox.take() {
                for n in wire::frames(&block.frames) {
                    payload_bytes += n.payload.len();
                    delivered += 1;
                }
            }
        }
        if turn > 0 {
            push += (middle - begin).as_secs_f64();
            take += (machine::cpu_time() - middle).as_secs_f64();
        }
    }
    let expected = pushed * (load.subscriptions / load.channels() * load.per_block) as u64;
    assert_eq!(delivered, expected, "{}", S::NAME);
    assert_eq!(payload_bytes as u64, 32 * expected, "{}", S::NAME);
    let measured = (blocks.div_ceil(each_turn) * each_turn * load.per_block as u64) as f64;
    Cost { push: push * 1e9 / measured, take: take * 1e9 / measured }
}

/// Opens all channels. Every subscription sleeps.
fn open<S: Structure>(load: Load) -> (Vec<S>, Vec<S::Inbox>) {
    let mut channels = Vec::with_capacity(load.channels());
    let mut inboxes = Vec::with_capacity(load.subscriptions);
    for _ in 0..load.channels() {
        let (channel, more) = S::open(load.subscriptions / load.channels());
        channels.push(channel);
        inboxes.extend(more);
    }
    for inbox in &mut inboxes {
        assert!(inbox.take().is_none());
    }
    (channels, inboxes)
}

fn memory<S: Structure>(load: Load) -> Memory {
    let before = held();
    let (channels, mut inboxes) = open::<S>(load);
    let each = |bytes: usize| (bytes - before) as f64 / load.subscriptions as f64;
    let new = each(held());
    let traffic = Traffic::of_one_channel(16);
    let frames = &traffic.read(0)[..traffic.read_bytes() / 16];
    let mut woken = Vec::new();
    for channel in &channels {
        channel.push(&Block { frames: Bytes::copy_from_slice(frames), count: 1 }, &mut woken);
    }
    for inbox in &mut inboxes {
        assert!(inbox.take().is_some_and(|block| block.count == 1));
        assert!(inbox.take().is_none());
    }
    drop((woken, traffic));
    Memory { new, used: each(held()) }
}
