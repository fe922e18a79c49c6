//! Which part of one image is which of the other.
//!
//! Regions are paired by name. Everything else is paired by kind and name, level by level: volumes
//! and files by GUID, files of coreboot by name, microcode by processor. Of several with one name,
//! those with the same contents go together, then those at the same place, then in their order.
//! Regions and compressed sections are looked through, so a volume is found again when a region
//! around it is new, and a file when it is packed in another way.

use std::collections::{HashMap, HashSet, VecDeque};

use firmcast::image::Digest;
use firmcast::image::layout::Guid;
use firmcast::image::tree::{Node, NodeKind};

use super::listing::is_room;

/// Two parts that are the same, or one without the other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pair<'a> {
    Both(Placed<'a>, Placed<'a>),
    Removed(Placed<'a>),
    Added(Placed<'a>),
}

/// A part, and whether its offset counts from the start of something unpacked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed<'a> {
    pub(super) node: &'a Node,
    pub(super) is_unpacked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key<'a> {
    /// Regions of one name are one whatever their kind.
    kind: Option<NodeKind>,
    guid: Option<Guid>,
    name: Option<&'a str>,
}

/// By what two parts are the same.
type Mark<'a> = (Key<'a>, Option<Digest>, Option<u64>);

/// Pairs the regions of two trees.
pub(super) fn pair_regions<'a>(old: &'a [Node], new: &'a [Node]) -> Vec<Pair<'a>> {
    let [mut olds, mut news] = [Vec::new(), Vec::new()];
    regions(old, &mut olds);
    regions(new, &mut news);
    pair(&olds, &news)
}

/// Pairs what lies in two parts, or in two images, but for regions and what is only room.
pub(super) fn pair_contents<'a>(
    old: &'a [Node],
    new: &'a [Node],
    is_unpacked: [bool; 2],
) -> Vec<Pair<'a>> {
    let [mut olds, mut news] = [Vec::new(), Vec::new()];
    contents(old, is_unpacked[0], &mut olds);
    contents(new, is_unpacked[1], &mut news);
    pair(&olds, &news)
}

fn regions<'a>(nodes: &'a [Node], found: &mut Vec<Placed<'a>>) {
    for node in nodes {
        if matches!(node.kind, NodeKind::Region(_)) {
            found.push(Placed { node, is_unpacked: false });
        }
        // What was unpacked has no regions.
        if node.unpacked_bytes.is_none() {
            regions(&node.children, found);
        }
    }
}

fn contents<'a>(nodes: &'a [Node], is_unpacked: bool, found: &mut Vec<Placed<'a>>) {
    for node in nodes {
        let is_transparent = matches!(node.kind, NodeKind::Region(_))
            || node.kind == NodeKind::Section && !node.children.is_empty();
        if is_transparent {
            contents(&node.children, is_unpacked || node.unpacked_bytes.is_some(), found);
        } else if !is_room(node) {
            found.push(Placed { node, is_unpacked });
        }
    }
}

fn key(node: &Node) -> Key<'_> {
    let kind = match node.kind {
        NodeKind::Region(_) => None,
        kind => Some(kind),
    };
    let name = if node.guid.is_some() { None } else { node.name.as_deref() };
    Key { kind, guid: node.guid, name }
}

fn pair<'a>(olds: &[Placed<'a>], news: &[Placed<'a>]) -> Vec<Pair<'a>> {
    let mut partners: Vec<Option<usize>> = vec![None; news.len()];
    let mut taken = HashSet::new();
    let mut match_by_mark = |mark: fn(&Node) -> Mark| {
        match_by(olds, news, &mut partners, &mut taken, mark);
    };
    match_by_mark(|node| (key(node), Some(node.digest), None));
    match_by_mark(|node| (key(node), None, Some(node.offset_bytes)));
    match_by_mark(|node| (key(node), None, None));
    let removed = olds.iter().enumerate().filter(|(index, _)| !taken.contains(index));
    let removed = removed.map(|(_, old)| Pair::Removed(*old));
    let rest = news.iter().zip(&partners).map(|(new, partner)| match partner {
        Some(old) => Pair::Both(olds[*old], *new),
        None => Pair::Added(*new),
    });
    removed.chain(rest).collect()
}

/// Gives each of `news` that has no partner yet one that is the same by `mark`.
fn match_by<'a>(
    olds: &[Placed<'a>],
    news: &[Placed<'a>],
    partners: &mut [Option<usize>],
    taken: &mut HashSet<usize>,
    mark: fn(&Node) -> Mark,
) {
    let mut waiting: HashMap<Mark, VecDeque<usize>> = HashMap::new();
    for (index, old) in olds.iter().enumerate().filter(|(index, _)| !taken.contains(index)) {
        waiting.entry(mark(old.node)).or_default().push_back(index);
    }
    for (new, partner) in news.iter().zip(partners).filter(|(_, partner)| partner.is_none()) {
        *partner = waiting.get_mut(&mark(new.node)).and_then(VecDeque::pop_front);
        taken.extend(*partner);
    }
}
