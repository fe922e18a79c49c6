//! Which fragments the next repair pass sends.

use std::collections::{BTreeSet, VecDeque};

use super::audience::Host;
use super::geometry::Geometry;
use super::sent::Sent;
use crate::wire::broadcast::FragmentRange;

/// A pass allows for at most this loss; what a worse host lacks then is for the next pass.
const LOSS_ALLOWED_MAX: f64 = 0.5;

/// Passes up to this length get a margin, since a further round would cost more than a few
/// fragments.
const SHORT_PASS: u32 = 64;

/// The margin of a short pass: one fragment, and this part of its length.
const SHORT_PASS_MARGIN_DIVISOR: u32 = 8;

/// Repair fragments are sent first for hosts that lack at most this part of a block more than the
/// one that lacks least, or than the one in the middle: few hosts with bad links must not hold up
/// what all others wait for.
const SPREAD_DIVISOR: u32 = 32;

/// Behind fragments that are sent by name this part of their number must come in repair fragments
/// before the source fragments come again.
const NEW_DIVISOR: u32 = 4;

/// The next fragment number to send in each block: first the fresh repair fragments, then
/// everything again.
#[derive(Debug)]
pub(super) struct Cursors(Vec<u32>);

impl Cursors {
    /// All source fragments were sent, no repair fragment was.
    pub(super) fn new(geometry: &Geometry) -> Self {
        Self((0..geometry.block_count()).map(|block| geometry.source_count(block)).collect())
    }

    /// Sees to it that what comes next is new to hosts that get these by name, and may lose a part
    /// of them: such hosts hold no repair fragment.
    fn follow(&mut self, geometry: &Geometry, named: &VecDeque<FragmentRange>) {
        for block in 0..geometry.block_count() {
            let of_block = named.iter().filter(|range| range.block == block);
            let count: u32 = of_block.map(|range| u32::from(range.count)).sum();
            let next = &mut self.0[usize::from(block)];
            let first_repair = geometry.source_count(block);
            let is_repair = *next >= first_repair;
            let ahead = if is_repair { geometry.fragment_count(block) - *next } else { 0 };
            if ahead < count / NEW_DIVISOR {
                *next = first_repair;
            }
        }
    }

    /// The next `count` numbers of a block, wrapping to number 0 behind the last.
    fn take(
        &mut self,
        geometry: &Geometry,
        block: u16,
        mut count: u32,
        pass: &mut VecDeque<FragmentRange>,
    ) {
        let end = geometry.fragment_count(block);
        let next = &mut self.0[usize::from(block)];
        while count > 0 {
            let run = count.min(end - *next).min(u32::from(u16::MAX));
            pass.push_back(FragmentRange { block, first: *next, count: run as u16 });
            *next = (*next + run) % end;
            count -= run;
        }
    }
}

/// Returns at most `count_max` fragments of what these hosts are expected to lack now of the blocks
/// that are whole among the payload's first `sources` source fragments: by their newest answers,
/// and by what was sent since those were asked for. Empty when what is under way is expected to be
/// enough for all.
///
/// Who lacks much more than others waits until these have all blocks, and until a block ends; who
/// lacks much more than most also until all source fragments are sent.
pub(super) fn expected_pass<'a>(
    geometry: &Geometry,
    cursors: &mut Cursors,
    hosts: impl Iterator<Item = &'a Host> + Clone,
    sent: &Sent,
    sources: u32,
    count_max: u32,
) -> VecDeque<FragmentRange> {
    let lacking_of = |block: u16| {
        let lacking = hosts.clone().filter_map(move |host| {
            let arrives = 1.0 - host.loss().min(LOSS_ALLOWED_MAX);
            Some(host.expected_need(usize::from(block), sent)? / arrives)
        });
        lacking.map(|lacking| lacking.max(0.0) as u32).collect::<Vec<u32>>()
    };
    let blocks = geometry.blocks_within(sources);
    let mut waves: [Vec<(u16, u32)>; 3] = Default::default();
    for block in blocks {
        let counts = in_waves(lacking_of(block), geometry.source_count(block) / SPREAD_DIVISOR);
        waves.iter_mut().zip(counts).for_each(|(wave, count)| wave.push((block, count)));
    }
    let served = match geometry.ends_block(sources) {
        _ if sources == geometry.source_total() => 3,
        true => 2,
        false => 1,
    };
    let wave = waves[..served].iter().find(|wave| wave.iter().any(|(_, count)| *count > 0));
    let (mut pass, mut room) = (VecDeque::new(), count_max);
    for (block, count) in wave.into_iter().flatten() {
        let count = room.min(*count);
        cursors.take(geometry, *block, count, &mut pass);
        room -= count;
    }
    pass
}

/// Returns the most that a host lacks: of those that lack little more than the one that lacks
/// least, then of those that lack little more than the one in the middle, then of all.
fn in_waves(mut lacking: Vec<u32>, spread: u32) -> [u32; 3] {
    if lacking.is_empty() {
        return [0; 3];
    }
    lacking.sort_unstable();
    let last = lacking.len() - 1;
    let near = |from: u32| {
        let within = |lacking: &u32| *lacking <= from.saturating_add(spread);
        lacking[lacking.partition_point(within) - 1]
    };
    [near(lacking[0]), near(lacking[last / 2]), lacking[last]]
}

/// Returns the next pass for these hosts. What serves one host serves all: for each block it is as
/// long as the neediest host's need and loss ask for, unless naming the fragments makes a shorter
/// one.
pub(super) fn repair_pass<'a>(
    geometry: &Geometry,
    cursors: &mut Cursors,
    hosts: impl Iterator<Item = &'a Host> + Clone,
) -> VecDeque<FragmentRange> {
    let needed: u32 = (0..geometry.block_count())
        .map(|block| hosts.clone().map(|host| host.needs()[usize::from(block)]).max().unwrap_or(0))
        .sum();
    if let Some(named) = union_of_named(hosts.clone(), needed as usize) {
        cursors.follow(geometry, &named);
        return named;
    }
    let mut pass = VecDeque::new();
    for block in 0..geometry.block_count() {
        let longest = hosts
            .clone()
            .map(|host| fragments_for(host.needs()[usize::from(block)], host.loss()))
            .max()
            .unwrap_or(0);
        cursors.take(geometry, block, longest.min(geometry.fragment_count(block)), &mut pass);
    }
    pass
}

/// Fragments to send so that about `need` arrive.
fn fragments_for(need: u32, loss: f64) -> u32 {
    if need == 0 {
        return 0;
    }
    let count = (f64::from(need) / (1.0 - loss.min(LOSS_ALLOWED_MAX))).ceil() as u32;
    if count <= SHORT_PASS { count + 1 + count / SHORT_PASS_MARGIN_DIVISOR } else { count }
}

/// Returns all fragments that the hosts name, if every host does and they are no more than
/// `count_max`.
fn union_of_named<'a>(
    hosts: impl Iterator<Item = &'a Host>,
    count_max: usize,
) -> Option<VecDeque<FragmentRange>> {
    let mut union = BTreeSet::new();
    for host in hosts {
        for range in host.named()? {
            let numbers = range.first..range.first + u32::from(range.count);
            union.extend(numbers.map(|number| (range.block, number)));
            if union.len() > count_max {
                return None;
            }
        }
    }
    let mut pass = Vec::new();
    for (block, number) in union {
        FragmentRange::append(&mut pass, block, number);
    }
    Some(pass.into())
}
