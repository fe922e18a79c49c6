//! The tree of an image, as JSON and in words. The names of the fields are part of the interface of
//! `firmcast bundle show --tree --json`; docs/OPERATIONS.md lists them.

use std::fmt::Write as _;

use firmcast::image::tree::{Node, NodeKind, Tree};
use serde::Serialize;

/// What an image consists of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listing {
    /// How the layout contradicts itself, if it does.
    pub layout_flaw: Option<String>,
    /// Whether there is more than is listed.
    pub is_cut: bool,
    /// What lies in nothing else.
    pub nodes: Vec<Listed>,
}

/// A part of an image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed {
    /// What it is.
    pub kind: &'static str,
    /// Its name for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guid: Option<String>,
    /// Its name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Type and compression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What is damaged or was not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flaw: Option<String>,
    /// From the start of the image, or of the unpacked bytes that it lies in.
    pub offset_bytes: u64,
    /// Length.
    pub length_bytes: u64,
    /// Length of what was unpacked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpacked_bytes: Option<u64>,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// What lies in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Listed>,
}

impl Listing {
    /// Lists `tree`.
    pub fn of(tree: &Tree) -> Self {
        Self {
            layout_flaw: tree.layout_flaw.clone(),
            is_cut: tree.is_cut,
            nodes: tree.nodes.iter().map(Listed::of).collect(),
        }
    }

    /// Returns a line for each part: offset, length, what it is. A plus sign stands before offsets
    /// in what was unpacked.
    pub fn text(&self) -> String {
        let mut text = format!("{:>11} {:>10}  what\n", "offset", "length");
        self.nodes.iter().for_each(|node| node.write(&mut text, 0, false));
        if self.is_cut {
            text.push_str("... and more, which is not listed\n");
        }
        if let Some(flaw) = &self.layout_flaw {
            // Writing to a String does not fail.
            let _ = writeln!(text, "the layout contradicts itself: {flaw}");
        }
        text
    }
}

impl Listed {
    fn of(node: &Node) -> Self {
        Self {
            kind: node.kind.name(),
            guid: node.guid.map(|guid| guid.to_string()),
            name: node.name.clone(),
            version: node.version.clone(),
            detail: node.detail.clone(),
            flaw: node.flaw.clone(),
            offset_bytes: node.offset_bytes,
            length_bytes: node.length_bytes,
            unpacked_bytes: node.unpacked_bytes,
            sha256: super::subject::hex(&node.digest),
            children: node.children.iter().map(Self::of).collect(),
        }
    }

    fn write(&self, text: &mut String, depth: usize, is_unpacked: bool) {
        let sign = if is_unpacked { "+" } else { "" };
        let offset = format!("{sign}{:#x}", self.offset_bytes);
        let indent = "  ".repeat(depth);
        let words = self.words();
        let _ = writeln!(text, "{offset:>11} {:>#10x}  {indent}{words}", self.length_bytes);
        let is_unpacked = is_unpacked || self.unpacked_bytes.is_some();
        self.children.iter().for_each(|child| child.write(text, depth + 1, is_unpacked));
    }

    fn words(&self) -> String {
        let names = [&self.guid, &self.name].into_iter().flatten().map(String::as_str);
        let mut words: String =
            std::iter::once(self.kind).chain(names).collect::<Vec<_>>().join(" ");
        let version = self.version.as_ref().map(|version| format!("version {version}"));
        let unpacked = self.unpacked_bytes.map(|bytes| format!("{bytes:#x} bytes unpacked"));
        let facts = [&self.detail, &version, &unpacked].into_iter().flatten();
        let facts: Vec<&str> = facts.map(String::as_str).collect();
        if !facts.is_empty() {
            let _ = write!(words, " ({})", facts.join(", "));
        }
        if let Some(flaw) = &self.flaw {
            let _ = write!(words, ": {flaw}");
        }
        words
    }
}

/// Returns what a part is called in messages.
pub(super) fn label(node: &Node) -> String {
    let names = [node.guid.map(|guid| guid.to_string()), node.name.clone()].into_iter().flatten();
    std::iter::once(node.kind.name().to_owned()).chain(names).collect::<Vec<_>>().join(" ")
}

/// Returns whether something is there only to be filled.
pub(super) fn is_room(node: &Node) -> bool {
    matches!(node.kind, NodeKind::CorebootRoom | NodeKind::Padding)
}
