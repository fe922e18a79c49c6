//! What differs between two subjects, as JSON and in words. The names of the fields are part of the
//! interface of `firmcast bundle diff --json`; docs/OPERATIONS.md lists them.

use std::fmt::Write as _;
use std::ops::Range;

use firmcast::image::ByteRanges;
use firmcast::image::tree::Node;
use serde::Serialize;
use serde_json::Value;

use super::listing::label;
use super::pairs::{Pair, Placed, pair_contents, pair_regions};
use super::subject::{Rule, Subject, hex};

/// Bytes are compared in pieces of this size: the smallest blocks that flash is erased in.
const PIECE_BYTES: usize = 4096;

/// Everything that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Whether nothing does.
    pub same: bool,
    /// Fields of the manifests.
    pub fields: Vec<FieldChange>,
    /// What an update does with regions.
    pub rules: Vec<RuleChange>,
    /// Regions of the layout, then volumes, files and the like.
    pub changes: Vec<Change>,
    /// Whether more than is listed may differ.
    pub is_cut: bool,
    /// The bytes of the images.
    pub bytes: Bytes,
}

/// A field of the manifests that differs; `null` where one side has no manifest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldChange {
    /// As in `firmcast bundle show --json`.
    pub field: &'static str,
    /// The first one's.
    pub old: Value,
    /// The second one's.
    pub new: Value,
}

/// A rule that differs; `null` where one side has none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleChange {
    /// Name of the region.
    pub name: String,
    /// The first one's.
    pub old: Option<Rule>,
    /// The second one's.
    pub new: Option<Rule>,
}

/// A part that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// `added`, `removed`, `changed`, or `moved` where nothing but the place differs.
    pub change: &'static str,
    /// What it is, as in `firmcast bundle show --tree`.
    pub kind: &'static str,
    /// Its name for programs.
    pub guid: Option<String>,
    /// Its name for people.
    pub name: Option<String>,
    /// What it lies in, from the outside to the inside, but for regions.
    pub inside: Vec<String>,
    /// What of it differs: `length`, `version`, `contents`, `offset`.
    pub what: Vec<&'static str>,
    /// So many of its bytes, of a region that is as long in both.
    pub differing_bytes: Option<u64>,
    /// The first one's.
    pub old: Option<Side>,
    /// The second one's.
    pub new: Option<Side>,
}

/// A part on one side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// From the start of the image, or of the unpacked bytes that it lies in.
    pub offset_bytes: u64,
    /// Whether the offset is one in unpacked bytes.
    pub is_unpacked: bool,
    /// Length.
    pub length_bytes: u64,
    /// Version.
    pub version: Option<String>,
    /// Type and compression.
    pub detail: Option<String>,
    /// SHA-256 of its bytes.
    pub sha256: String,
}

/// How the bytes of the images differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// Size of the first one.
    pub old_bytes: usize,
    /// Size of the second one.
    pub new_bytes: usize,
    /// How many bytes differ; what only one of them has differs.
    pub differing_bytes: u64,
    /// Where: pieces of 4 KiB, as offsets and lengths.
    pub ranges: ByteRanges,
}

impl Difference {
    /// Compares two subjects.
    pub fn between(old: &Subject, new: &Subject) -> Self {
        let (fields, rules) = (fields(old, new), rules(old, new));
        let bytes = Bytes::between(old.image, new.image);
        let mut changes = regions(old, new);
        let both = [&old.tree.nodes[..], &new.tree.nodes];
        compare(pair_contents(both[0], both[1], [false; 2]), &mut Vec::new(), 0, &mut changes);
        let same = fields.is_empty() && rules.is_empty() && bytes.differing_bytes == 0;
        let is_cut = old.tree.is_cut || new.tree.is_cut;
        Self { same, fields, rules, changes, is_cut, bytes }
    }

    /// Returns a line for each difference. Files that have only moved are counted.
    pub fn text(&self) -> String {
        if self.same {
            return "no difference\n".to_owned();
        }
        let mut text = String::new();
        let mut line = |words: String| text.push_str(&(words + "\n"));
        for FieldChange { field, old, new } in &self.fields {
            let (old, new) = (value_text(old), value_text(new));
            line(format!("{}: {old} -> {new}", field.replace('_', " ")));
        }
        for RuleChange { name, old, new } in &self.rules {
            line(format!("rule for {name}: {} -> {}", rule_text(old), rule_text(new)));
        }
        let is_told = |change: &&Change| change.change != "moved" || change.kind != "file";
        self.changes.iter().filter(is_told).for_each(|change| line(change.text()));
        match self.changes.iter().filter(|change| !is_told(change)).count() {
            0 => {}
            moved => line(format!("moved, but the same: {moved} of the files")),
        }
        if self.is_cut {
            line("more than can be listed here may differ".to_owned());
        }
        line(self.bytes.text());
        text
    }
}

fn fields(old: &Subject, new: &Subject) -> Vec<FieldChange> {
    let value = |subject: &Subject, field: &str| {
        let found = subject.fields.iter().find(|(name, _)| *name == field);
        found.map_or(Value::Null, |(_, value)| value.clone())
    };
    let more = [&old.fields, &new.fields].into_iter().max_by_key(|fields| fields.len());
    let names = more.into_iter().flatten().map(|(name, _)| *name);
    // An image alone says nothing that could differ but its size.
    let (has_old, has_new) = (old.rules.is_some(), new.rules.is_some());
    let names = names.filter(|name| has_old == has_new || *name == "image_size_bytes");
    names
        .map(|field| FieldChange { field, old: value(old, field), new: value(new, field) })
        .filter(|change| change.old != change.new)
        .collect()
}

fn rules(old: &Subject, new: &Subject) -> Vec<RuleChange> {
    let (Some(olds), Some(news)) = (&old.rules, &new.rules) else { return Vec::new() };
    let named = |rules: &[Rule], name: &str| rules.iter().find(|rule| rule.name == name).cloned();
    let gone = olds.iter().filter(|rule| named(news, &rule.name).is_none());
    let names = gone.chain(news).map(|rule| &rule.name);
    names
        .map(|name| RuleChange {
            name: name.clone(),
            old: named(olds, name),
            new: named(news, name),
        })
        .filter(|change| change.old != change.new)
        .collect()
}

fn value_text(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "none".to_owned(),
        Value::Array(values) => values.iter().map(value_text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn rule_text(rule: &Option<Rule>) -> String {
    match rule {
        None => "none".to_owned(),
        Some(Rule { action, offset_bytes, length_bytes, .. }) => {
            format!("{action} {length_bytes:#x} bytes at {offset_bytes:#x}")
        }
    }
}

fn regions(old: &Subject, new: &Subject) -> Vec<Change> {
    let mut changes = Vec::new();
    for pair in pair_regions(&old.tree.nodes, &new.tree.nodes) {
        let Some(mut change) = Change::of(&pair, &[], 0) else { continue };
        if let Pair::Both(one, other) = pair {
            change.differing_bytes = differing(bytes_of(old, one.node), bytes_of(new, other.node));
        }
        changes.push(change);
    }
    changes
}

fn bytes_of<'a>(subject: &Subject<'a>, node: &Node) -> &'a [u8] {
    let start = node.offset_bytes as usize;
    subject.image.get(start..start + node.length_bytes as usize).unwrap_or_default()
}

fn differing(old: &[u8], new: &[u8]) -> Option<u64> {
    (old.len() == new.len())
        .then(|| old.iter().zip(new).filter(|(old, new)| old != new).count() as u64)
}

/// Adds what differs among `pairs` and in them. What lies in something that has moved has moved by
/// itself only if by another distance than that one, `shift`.
fn compare(pairs: Vec<Pair>, inside: &mut Vec<String>, shift: i64, changes: &mut Vec<Change>) {
    for pair in pairs {
        let change = Change::of(&pair, inside, shift);
        let Pair::Both(old, new) = pair else {
            changes.extend(change);
            continue;
        };
        let at = changes.len();
        inside.push(label(new.node));
        let shift = distance(&old, &new);
        let is_unpacked = [old.is_unpacked, new.is_unpacked];
        let within = pair_contents(&old.node.children, &new.node.children, is_unpacked);
        compare(within, inside, shift, changes);
        inside.pop();
        // Other contents are told by what lies in it, if anything there has changed.
        let is_told = changes.len() > at;
        if let Some(change) = change.filter(|change| !is_told || change.what != ["contents"]) {
            changes.insert(at, change);
        }
    }
}

fn distance(old: &Placed, new: &Placed) -> i64 {
    new.node.offset_bytes as i64 - old.node.offset_bytes as i64
}

impl Change {
    fn of(pair: &Pair, inside: &[String], shift: i64) -> Option<Self> {
        let (change, what, node, old, new) = match pair {
            Pair::Removed(old) => ("removed", Vec::new(), old.node, Some(old), None),
            Pair::Added(new) => ("added", Vec::new(), new.node, None, Some(new)),
            Pair::Both(old, new) => {
                let what = what_differs(old, new, shift);
                let change = match what.as_slice() {
                    [] => return None,
                    ["offset"] => "moved",
                    _ => "changed",
                };
                (change, what, new.node, Some(old), Some(new))
            }
        };
        Some(Self {
            change,
            kind: node.kind.name(),
            guid: node.guid.map(|guid| guid.to_string()),
            name: node.name.clone(),
            inside: inside.to_vec(),
            what,
            differing_bytes: None,
            old: old.map(Side::of),
            new: new.map(Side::of),
        })
    }

    fn text(&self) -> String {
        let names = [&self.guid, &self.name].into_iter().flatten().map(String::as_str);
        let mut text =
            [self.change, self.kind].into_iter().chain(names).collect::<Vec<_>>().join(" ");
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => {
                let _ = write!(text, ": {}", self.comparison(old, new));
            }
            (Some(side), None) | (None, Some(side)) => {
                let version = side.version.as_ref();
                let version = version.map(|version| format!("version {version}, "));
                let _ = write!(text, ": {}{}", version.unwrap_or_default(), side.place());
            }
            (None, None) => {}
        }
        if let Some(innermost) = self.inside.last() {
            let _ = write!(text, ", in {innermost}");
        }
        text
    }

    fn comparison(&self, old: &Side, new: &Side) -> String {
        let version = |side: &Side| side.version.clone().unwrap_or_else(|| "none".to_owned());
        let facts = self.what.iter().map(|what| match *what {
            "version" => format!("version {} -> {}", version(old), version(new)),
            "length" => format!("{:#x} -> {:#x} bytes", old.length_bytes, new.length_bytes),
            "offset" => format!("at {:#x} -> {:#x}", old.offset_bytes, new.offset_bytes),
            what => match self.differing_bytes {
                Some(bytes) => format!("{bytes:#x} of {:#x} bytes differ", new.length_bytes),
                None => format!("other {what}"),
            },
        });
        facts.collect::<Vec<_>>().join(", ")
    }
}

fn what_differs(old: &Placed, new: &Placed, shift: i64) -> Vec<&'static str> {
    let is_unpacked = old.is_unpacked || new.is_unpacked;
    // One that begins where it began has not moved, whatever is around it.
    let has_moved = !is_unpacked && ![shift, 0].contains(&distance(old, new));
    let (old, new) = (old.node, new.node);
    let has_other_length = old.length_bytes != new.length_bytes;
    [
        (old.version != new.version, "version"),
        (has_other_length, "length"),
        // Of two lengths the contents always differ.
        (!has_other_length && old.digest != new.digest, "contents"),
        (has_moved, "offset"),
    ]
    .into_iter()
    .filter_map(|(differs, what)| differs.then_some(what))
    .collect()
}

impl Side {
    fn of(placed: &Placed) -> Self {
        let Node { offset_bytes, length_bytes, version, detail, digest, .. } = placed.node;
        Self {
            offset_bytes: *offset_bytes,
            is_unpacked: placed.is_unpacked,
            length_bytes: *length_bytes,
            version: version.clone(),
            detail: detail.clone(),
            sha256: hex(digest),
        }
    }

    fn place(&self) -> String {
        let of_what = if self.is_unpacked { " of what is unpacked" } else { "" };
        format!("{:#x} bytes at {:#x}{of_what}", self.length_bytes, self.offset_bytes)
    }
}

impl Bytes {
    fn between(old: &[u8], new: &[u8]) -> Self {
        let (common, all) = (old.len().min(new.len()), old.len().max(new.len()));
        let mut ranges = ByteRanges::default();
        let mut differing_bytes = (all - common) as u64;
        if common < all {
            ranges.insert(common as u64..all as u64);
        }
        for (range, count) in differing_pieces(&old[..common], &new[..common]) {
            ranges.insert(range.start as u64..range.end as u64);
            differing_bytes += count;
        }
        Self { old_bytes: old.len(), new_bytes: new.len(), differing_bytes, ranges }
    }

    fn text(&self) -> String {
        match self.differing_bytes {
            0 => "the bytes of the images are the same".to_owned(),
            differing => format!(
                "{differing:#x} of {:#x} bytes differ, in 4 KiB at {}",
                self.old_bytes.max(self.new_bytes),
                self.ranges
            ),
        }
    }
}

/// Returns the pieces of two images of one size that differ, and how many bytes of each.
fn differing_pieces(old: &[u8], new: &[u8]) -> impl Iterator<Item = (Range<usize>, u64)> {
    let pieces = old.chunks(PIECE_BYTES).zip(new.chunks(PIECE_BYTES)).enumerate();
    pieces.filter(|(_, (old, new))| old != new).map(|(index, (old, new))| {
        let start = index * PIECE_BYTES;
        let count = old.iter().zip(new).filter(|(old, new)| old != new).count();
        (start..start + old.len(), count as u64)
    })
}
