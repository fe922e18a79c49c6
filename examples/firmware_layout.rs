//! What firmcast sees in a firmware image, as JSON: layout, what the host may not access, firmware
//! volumes and files that lie in no other one, every file of the tree, and the verdict.
//! `tests/firmware` compares it with what other tools see.
//!
//! Usage: `firmware_layout FILE`, or `firmware_layout --stdin` to judge damaged copies one after
//! the other: for each line `FILE OFFSET BIT` a line with the verdict on that file with that bit
//! flipped, for each line `FILE OFFSET erase` with 4 KiB from there on erased.

use std::io::{BufRead as _, Write as _};

use anyhow::{Context as _, bail};
use firmcast::image::layout::{
    FirmwareVolume, FoundVolume, HostAccess, Layout, LayoutError, Volumes, boot_offset, host_access,
};
use firmcast::image::tree::{Node, NodeKind, Tree};
use firmcast::image::validity::{Verdict, ffs::Files, validate};
use serde_json::{Value, json};

/// The smallest blocks that flash is erased in.
const ERASED_BYTES: usize = 4096;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [option] if option == "--stdin" => judge_damaged(),
        [file] => {
            let image = std::fs::read(file).with_context(|| format!("cannot read {file}"))?;
            println!("{:#}", describe(&image));
            Ok(())
        }
        _ => bail!("usage: firmware_layout FILE | --stdin"),
    }
}

fn judge_damaged() -> anyhow::Result<()> {
    let mut loaded = (String::new(), Vec::new());
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.rsplitn(3, ' ');
        let (Some(bit), Some(offset), Some(file)) = (words.next(), words.next(), words.next())
        else {
            bail!("line {line:?}, expected FILE OFFSET BIT or FILE OFFSET erase");
        };
        if loaded.0 != file {
            loaded = (file.to_owned(), std::fs::read(file)?);
        }
        let offset = offset.parse::<usize>()?;
        let image = &mut loaded.1;
        let length = if bit == "erase" { ERASED_BYTES } else { 1 };
        let damaged = image.get_mut(offset..offset + length).context("offset outside the file")?;
        let whole = damaged.to_vec();
        match bit {
            "erase" => damaged.fill(0xff),
            bit => damaged[0] ^= 1u8 << bit.parse::<u8>()?,
        }
        writeln!(output, "{}", verdict(image))?;
        image[offset..offset + length].copy_from_slice(&whole);
    }
    Ok(())
}

fn describe(image: &[u8]) -> Value {
    json!({
        "size": image.len(),
        "boot_offset": boot_offset(image).offset_bytes,
        "boot_offset_is_known": boot_offset(image).by.is_known(),
        "layout": layout(Layout::read(image)),
        "host_access": access(host_access(image)),
        "volumes": Volumes::of(image).map(|found| volume(image, found)).collect::<Vec<_>>(),
        "tree_files": tree_files(&Tree::read(image).nodes, false),
        "verdict": verdict(image),
    })
}

/// Every file of the tree, in its order; without an offset where that is one in unpacked bytes.
fn tree_files(nodes: &[Node], is_unpacked: bool) -> Vec<Value> {
    let mut files = Vec::new();
    for node in nodes {
        if matches!(node.kind, NodeKind::FirmwareFile | NodeKind::Padding) {
            files.push(json!({
                "offset": (!is_unpacked).then_some(node.offset_bytes),
                "length": node.length_bytes,
                "guid": node.guid.map(|guid| guid.to_string()),
                "name": node.name,
            }));
        }
        let is_unpacked = is_unpacked || node.unpacked_bytes.is_some();
        files.extend(tree_files(&node.children, is_unpacked));
    }
    files
}

fn layout(layout: Result<Layout, LayoutError>) -> Value {
    match layout {
        Err(error) => json!({ "error": error.to_string() }),
        Ok(layout) => layout
            .regions()
            .iter()
            .map(|region| {
                json!({
                    "name": region.name,
                    "kind": region.kind.name(),
                    "offset": region.offset_bytes,
                    "length": region.length_bytes,
                })
            })
            .collect(),
    }
}

fn access(access: Result<HostAccess, LayoutError>) -> Value {
    let pairs = |ranges: Vec<std::ops::Range<u64>>| -> Vec<_> {
        ranges.into_iter().map(|range| [range.start, range.end]).collect()
    };
    match access {
        Err(error) => json!({ "error": error.to_string() }),
        Ok(access) => {
            json!({ "no_read": pairs(access.no_read), "no_write": pairs(access.no_write) })
        }
    }
}

fn volume(image: &[u8], found: FoundVolume) -> Value {
    match found {
        FoundVolume::Damaged { offset_bytes, flaw } => {
            json!({ "offset": offset_bytes, "error": flaw.to_string() })
        }
        FoundVolume::Whole(volume) => json!({
            "offset": volume.offset_bytes,
            "length": volume.length_bytes,
            "header": volume.header_bytes,
            "guid": volume.file_system.to_string(),
            "files": files(image, &volume),
        }),
    }
}

fn files(image: &[u8], volume: &FirmwareVolume) -> Vec<Value> {
    let files = Files::of(image, volume).into_iter().flatten();
    files
        .map(|file| match file {
            Err(damaged) => json!({ "offset": damaged.offset_bytes, "error": damaged.to_string() }),
            Ok(file) => json!({
                "offset": file.offset_bytes,
                "length": file.length_bytes,
                "guid": file.name.to_string(),
                "type": file.kind,
            }),
        })
        .collect()
}

fn verdict(image: &[u8]) -> Value {
    let verdict = validate(image);
    let text = verdict.to_string();
    match verdict {
        Verdict::Valid { .. } => json!({ "verdict": "valid", "text": text }),
        Verdict::Doubtful { offset_bytes, .. } => {
            json!({ "verdict": "doubtful", "offset": offset_bytes, "text": text })
        }
        Verdict::Invalid { offset_bytes, .. } => {
            json!({ "verdict": "invalid", "offset": offset_bytes, "text": text })
        }
        Verdict::Unknown { .. } => json!({ "verdict": "unknown", "text": text }),
    }
}
