//! Any contents of a chip: everything that is listed lies inside what it is listed in.

#![no_main]

use firmcast::image::tree::{Node, Tree};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|chip: &[u8]| {
    check(&Tree::read(chip).nodes, 0, chip.len() as u64);
});

fn check(nodes: &[Node], start: u64, end: u64) {
    assert!(nodes.is_sorted_by_key(|node| node.offset_bytes));
    for node in nodes {
        let node_end = node.offset_bytes + node.length_bytes;
        assert!(start <= node.offset_bytes && node_end <= end && node.length_bytes > 0);
        match node.unpacked_bytes {
            Some(unpacked_bytes) => check(&node.children, 0, unpacked_bytes),
            None => check(&node.children, node.offset_bytes, node_end),
        }
    }
}
