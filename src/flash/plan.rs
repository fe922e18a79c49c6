//! The policy: what is to be changed on a chip, and in which order. Pure; nothing here touches a
//! device.

use std::ops::Range;
use std::sync::Arc;

use super::contents_digest::ContentsDigest;
use super::fitness::Fitness;
use super::move_order::MoveOrder;
use super::{FlashError, Live, Placement, WriteRule};
use crate::image::layout::{FirmwareVolume, LayoutRegion, Told, map_places};
use crate::image::{
    ByteRanges, Digest, Fitting, Manifest, Moved, Region, VerifiedImage, preserved,
};
use crate::order::sort_by_rank;
use crate::reason::Condition;

/// A block is looked at in pieces of this size (rounded up to the chip's write size) when it is
/// decided what need not be written: small enough to save time, large enough not to turn one block
/// into hundreds of system calls.
const PIECE_BYTES: usize = 256;

/// How an eraseblock comes to its new contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Erase the block, then write what is not FFh.
    EraseAndWrite,
    /// The rule of the chip allows the change without an erase: write these ranges of the block, in
    /// bytes from its start.
    WriteOnly(Vec<Range<usize>>),
}

/// One eraseblock that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Number of the block in the [`Placement`].
    pub block: usize,
    /// How.
    pub change: Change,
}

/// What a job will do to the chip.
#[derive(Clone, Debug)]
pub struct FlashPlan {
    target: Arc<Vec<u8>>,
    operations: Vec<Operation>,
    /// Where in the operations a stage of the order begins, but for the first one.
    stages: Vec<usize>,
    kept: Vec<usize>,
    deciders: Vec<Decider>,
    boot_block: Option<usize>,
    condition: Condition,
    target_digest: Option<Digest>,
    regions: Vec<Region>,
    moved: Vec<Moved>,
    order: MoveOrder,
    lost: Vec<LayoutRegion>,
}

/// Who decides what an eraseblock holds in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decider {
    /// The image: not a byte of the block is preserved.
    Image,
    /// The image and the chip: some bytes are preserved, and the others are equal already.
    Both,
    /// The chip: all bytes are preserved. Nothing depends on what they are.
    Chip,
    /// The chip: the host may not read all of the block.
    ChipUnread,
}

impl FlashPlan {
    /// Plans the way from `live` to `image` with the regions that the bundle's policy treats
    /// otherwise.
    ///
    /// What is kept at another place comes there first, then what says how the chip is divided:
    /// whenever the power fails, one of the two places is whole and told. Blocks that are equal
    /// already are left alone. The others are in ascending order, but the block at which the
    /// processor starts comes last: until then, the chip starts as it did, or not at all. A block
    /// that cannot be read is erased and written. A block in which something is closed to the host
    /// is left alone. A preserved firmware volume, e.g. a variable store, that has lost its header
    /// on a broken chip comes from the image.
    ///
    /// # Errors
    /// - A chip on which the image does not belong, or where something that is kept would be lost
    ///   ([`Misfit`](crate::image::Misfit)); or one that has what Intel Boot Guard needs and the
    ///   target has not; a target that is no whole firmware.
    /// - A block that changes although the host may not write it by the Intel flash descriptor.
    /// - A block in which something is closed to the host, but not preserved, or beside bytes that
    ///   change.
    /// - Preserved bytes that cannot be read and lie in a block that changes, or a preserved region
    ///   that shares an eraseblock with bytes that change: a power cut while that block is
    ///   rewritten would lose what was to be preserved.
    pub fn new(
        image: &VerifiedImage,
        placement: &Placement,
        live: Live<'_>,
    ) -> Result<Self, FlashError> {
        check_map(image, placement, live)?;
        let told = Told::by(live.contents);
        let fitness = Fitness::of(image, live, &told)?;
        let mut fitting = fit(image.manifest(), &told, fitness.condition)?;
        let given_up = give_up(&mut fitting, image, live, fitness.condition);
        let boot_offset = image.manifest().boot_offset_bytes();
        let boot_block =
            boot_offset.and_then(|offset| placement.block_of(fitting.on_chip(offset)?));
        let mut plan = Self {
            target: target(image, &fitting, live.contents),
            operations: Vec::new(),
            stages: Vec::new(),
            kept: Vec::new(),
            deciders: vec![Decider::Image; placement.block_count()],
            boot_block: None,
            condition: fitness.condition,
            target_digest: fitting.is_image_alone().then(|| *image.digest()),
            regions: fitting.regions().to_vec(),
            moved: fitting.moved().to_vec(),
            order: MoveOrder::default(),
            lost: fitting.lost().to_vec(),
        };
        let in_place: Vec<Region> = fitting.kept_in_place().cloned().collect();
        for block in 0..placement.block_count() {
            plan.add(block, &in_place, placement, live)?;
        }
        let blocks = plan.operations.iter().map(|operation| placement.block(operation.block));
        fitness.check(plan.target(), live.closed, blocks)?;
        let order = MoveOrder::new(fitting.moved(), placement, live, plan.target(), boot_block)?;
        plan.read_again(order.sources());
        let frames: Vec<Option<usize>> =
            given_up.iter().map(|range| placement.block_of(range.start)).collect();
        // The boot block is the last one, and before it the headers that lost regions get: until
        // they are there, a job that comes after a power cut sees that the rest is lost. What moves
        // goes before these. Sorting is stable.
        let rank = |operation: &Operation| -> [u64; 3] {
            let block = Some(operation.block);
            let moves = order.rank(operation.block);
            let is_frame = frames.contains(&block) && moves == MoveOrder::REST;
            [(block == boot_block).into(), is_frame.into(), moves.into()]
        };
        sort_by_rank(&mut plan.operations, rank);
        let ranks: Vec<_> = plan.operations.iter().map(rank).collect();
        plan.stages = (1..ranks.len()).filter(|nth| ranks[nth - 1] != ranks[*nth]).collect();
        plan.boot_block = boot_block.filter(|_| !plan.operations.is_empty());
        plan.order = order;
        Ok(plan)
    }

    /// Has blocks read a second time of which bytes go elsewhere, unless they change anyway.
    fn read_again(&mut self, sources: &[usize]) {
        for block in sources {
            let changes = self.operations.iter().any(|operation| operation.block == *block);
            if !changes && !self.kept.contains(block) {
                self.kept.push(*block);
            }
            if self.deciders[*block] == Decider::Chip {
                self.deciders[*block] = Decider::Both;
            }
        }
        sort_by_rank(&mut self.kept, |block| [*block as u64]);
    }

    fn add(
        &mut self,
        block: usize,
        regions: &[Region],
        placement: &Placement,
        live: Live<'_>,
    ) -> Result<(), FlashError> {
        let range = placement.range(block);
        if live.closed.overlaps(&(range.start as u64..range.end as u64)) {
            return self.add_closed(block, regions, placement, live);
        }
        let (old, new) = (&live.contents[range.clone()], &self.target[range.clone()]);
        let readable = live.readable[block];
        let preserved = preserved_in(regions, &range);
        match preserved {
            Some(region) if readable && old == new => {
                let is_whole = covers(region, &range);
                self.deciders[block] = if is_whole { Decider::Chip } else { Decider::Both };
                self.kept.push(block);
            }
            Some(region) => {
                return Err(FlashError::PreserveShares {
                    name: region.name.clone(),
                    region_offset_bytes: region.offset_bytes,
                    offset_bytes: placement.block(block).offset_bytes(),
                    length_bytes: placement.block(block).length_bytes(),
                });
            }
            None if readable && old == new => {}
            None => {
                let change = match readable {
                    true => change(old, new, live.rule, live.write_bytes as usize),
                    false => Change::EraseAndWrite,
                };
                self.operations.push(Operation { block, change });
            }
        }
        Ok(())
    }

    /// Leaves a block alone of which the host may not read everything, if that is what the bundle
    /// wants.
    fn add_closed(
        &mut self,
        block: usize,
        regions: &[Region],
        placement: &Placement,
        live: Live<'_>,
    ) -> Result<(), FlashError> {
        let range = placement.range(block);
        let whole: ByteRanges = std::iter::once(range.start as u64..range.end as u64).collect();
        let open = whole.without(live.closed);
        let closed = whole.without(&open);
        let is_equal = |part: &Range<u64>| {
            let part = part.start as usize..part.end as usize;
            live.contents[part.clone()] == self.target[part]
        };
        if live.readable[block]
            && closed.without(&preserved(regions)).is_empty()
            && open.iter().all(is_equal)
        {
            self.deciders[block] = Decider::ChipUnread;
            return Ok(());
        }
        let block = placement.block(block);
        Err(FlashError::ClosedChanges {
            offset_bytes: block.offset_bytes(),
            length_bytes: block.length_bytes(),
            closed,
        })
    }

    /// What the chip must hold in the end, in the image's order; FFh where it is closed to the
    /// host.
    pub fn target(&self) -> &[u8] {
        &self.target
    }

    /// SHA-256 of the target; known without reading it where the image lies there as it is.
    pub(super) fn target_digest(&self) -> ContentsDigest {
        match self.target_digest {
            Some(digest) => ContentsDigest::Known(digest),
            None => ContentsDigest::Of(Arc::clone(&self.target)),
        }
    }

    /// The regions with a rule of their own, as they lie on this chip.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// What is kept at another place than the chip has it.
    pub fn moved(&self) -> &[Moved] {
        &self.moved
    }

    /// The order in which what moves is safe.
    pub(super) fn order(&self) -> &MoveOrder {
        &self.order
    }

    /// What the chip has of its own that is lost, because the image has no place for it.
    pub fn lost(&self) -> &[LayoutRegion] {
        &self.lost
    }

    /// The blocks that change, in the order of execution.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Returns the number of the first operation behind number `first` that must not begin before
    /// all others before it are proven: a power cut would find both undone otherwise.
    pub(super) fn stage_end(&self, first: usize) -> usize {
        let next = self.stages.iter().copied().find(|start| *start > first);
        // The last operation stands alone: it may be the one that makes the firmware bootable.
        let last = self.operations.len().max(first + 2) - 1;
        next.map_or(last, |next| next.min(last))
    }

    /// Numbers of the blocks that stay because they hold preserved bytes. A wrong read of one of
    /// these would become part of the target.
    pub fn kept(&self) -> &[usize] {
        &self.kept
    }

    /// Whether something of this block is closed to the host: the block is left alone and not
    /// compared either.
    pub fn is_unread(&self, block: usize) -> bool {
        self.deciders[block] == Decider::ChipUnread
    }

    /// Who decides what this block holds in the end.
    pub(super) fn decider(&self, block: usize) -> Decider {
        self.deciders[block]
    }

    /// Takes newer bytes of a block that [`Decider::Chip`] decides.
    pub(super) fn renew(&mut self, range: Range<usize>, bytes: &[u8]) {
        Arc::make_mut(&mut self.target)[range].copy_from_slice(bytes);
    }

    /// Whether some blocks are left alone unread, so that there is no digest of the whole.
    pub fn has_unread(&self) -> bool {
        self.deciders.contains(&Decider::ChipUnread)
    }

    /// What the contents of the chip look like before any change.
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// The block that makes the firmware bootable; if it changes, it changes last.
    pub fn boot_block(&self) -> Option<usize> {
        self.boot_block
    }
}

/// Where the chip's map cannot be read, it may tell another place of what is kept than the image.
fn check_map(
    image: &VerifiedImage,
    placement: &Placement,
    live: Live<'_>,
) -> Result<(), FlashError> {
    let manifest = image.manifest();
    let keeps = manifest.regions().iter().any(|region| region.action.keeps_chip());
    if !manifest.may_change_layout() || !keeps || !live.readable.contains(&false) {
        return Ok(());
    }
    let places = map_places(image.bytes());
    let is_unread_map = |block: &usize| {
        let range = placement.range(*block);
        !live.readable[*block] && places.overlaps(&(range.start as u64..range.end as u64))
    };
    match (0..placement.block_count()).find(is_unread_map) {
        Some(block) => {
            let offset_bytes = placement.block(block).offset_bytes();
            Err(FlashError::MapUnreadable { offset_bytes })
        }
        None => Ok(()),
    }
}

/// Lays the image on the chip.
fn fit(manifest: &Manifest, live: &Told<'_>, condition: Condition) -> Result<Fitting, FlashError> {
    let fitting = match condition {
        Condition::Broken => Fitting::on_broken(manifest, live.bytes()),
        _ => Fitting::on_told(manifest, live),
    };
    fitting.map_err(|misfit| FlashError::Misfit(Box::new(misfit)))
}

/// Most firmware does not start without the frame of its variable store, so where that is lost on a
/// broken chip, the image's is better than what is left. Returns where.
fn give_up(
    fitting: &mut Fitting,
    image: &VerifiedImage,
    live: Live<'_>,
    condition: Condition,
) -> Vec<Range<u64>> {
    // What cannot be read may be whole.
    if condition != Condition::Broken || live.readable.contains(&false) {
        return Vec::new();
    }
    let is_volume = |bytes: &[u8]| FirmwareVolume::parse(bytes, 0).is_ok();
    fitting.give_up(|in_image, on_chip| {
        !live.closed.overlaps(&(on_chip.start as u64..on_chip.end as u64))
            && is_volume(&image.bytes()[in_image])
            && !is_volume(&live.contents[on_chip])
    })
}

fn target(image: &VerifiedImage, fitting: &Fitting, live: &[u8]) -> Arc<Vec<u8>> {
    match fitting.is_image_alone() {
        true => image.shared(),
        false => Arc::new(fitting.target(image.bytes(), live)),
    }
}

/// Returns one of the `kept` regions that lies in the block, or a part of it.
fn preserved_in<'a>(kept: &'a [Region], block: &Range<usize>) -> Option<&'a Region> {
    kept.iter().find(|region| {
        let kept = region.range();
        kept.start < block.end && block.start < kept.end
    })
}

fn covers(region: &Region, block: &Range<usize>) -> bool {
    let kept = region.range();
    kept.start <= block.start && block.end <= kept.end
}

fn change(old: &[u8], new: &[u8], rule: WriteRule, write_bytes: usize) -> Change {
    let no_erase = match rule {
        WriteRule::Overwrite => true,
        WriteRule::ClearBits => old.iter().zip(new).all(|(old, new)| old & new == *new),
        // A page that reads as FFh may still have been programmed, with an ECC of its own: only an
        // erase makes it writable.
        WriteRule::PageOnce => false,
    };
    match no_erase {
        true => Change::WriteOnly(join(
            pieces(old.len(), write_bytes).filter(|piece| old[piece.clone()] != new[piece.clone()]),
        )),
        false => Change::EraseAndWrite,
    }
}

/// The ranges of `data` that are not FFh: what has to be written after an erase.
pub(super) fn written_ranges(data: &[u8], write_bytes: usize) -> Vec<Range<usize>> {
    join(pieces(data.len(), write_bytes).filter(|piece| !is_erased(&data[piece.clone()])))
}

/// Whether this is what an erase leaves.
pub(super) fn is_erased(bytes: &[u8]) -> bool {
    const ERASED: [u8; PIECE_BYTES] = [0xFF; PIECE_BYTES];
    // Comparing slices is fast where the compiler optimises for size, too.
    bytes.chunks(PIECE_BYTES).all(|piece| *piece == ERASED[..piece.len()])
}

/// Cuts `length` bytes into pieces that may be written one by one.
fn pieces(length: usize, write_bytes: usize) -> impl Iterator<Item = Range<usize>> {
    let piece_bytes = PIECE_BYTES.next_multiple_of(write_bytes);
    (0..length).step_by(piece_bytes).map(move |start| start..length.min(start + piece_bytes))
}

/// Makes one range of those that follow one another.
pub(super) fn join(ranges: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut joined: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}
