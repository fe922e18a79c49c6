//! Puts what lies in the bytes of something else inside it.

use super::{Node, NodeKind};

/// Nests `found`, whose nodes may have children already, and sorts it.
pub(super) fn nest(mut found: Vec<Node>) -> Vec<Node> {
    found.sort_by_key(|node| {
        let is_region = matches!(node.kind, NodeKind::Region(_));
        (node.offset_bytes, u64::MAX - node.length_bytes, !is_region, node.kind)
    });
    let mut top = Vec::new();
    found.into_iter().for_each(|node| insert(&mut top, node));
    top
}

/// Puts `node` into the innermost of `siblings` that has all of its bytes, else among them.
///
/// Nodes come sorted by offset, the longer ones first. So when siblings overlap in part and one of
/// them has all bytes of the node, the last that begins before it has them, too.
fn insert(siblings: &mut Vec<Node>, node: Node) {
    let index = siblings.partition_point(|other| other.offset_bytes <= node.offset_bytes);
    let before = index.checked_sub(1).and_then(|last| siblings.get_mut(last));
    match before {
        Some(other) if other.contains(&node) && other.unpacked_bytes.is_none() => {
            insert(&mut other.children, node);
        }
        _ => siblings.insert(index, node),
    }
}
