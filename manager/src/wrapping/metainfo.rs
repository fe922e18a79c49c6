//! The metainfo of a cabinet of LVFS: which product the firmware is for, what it needs, what is
//! new.
//!
//! Nothing of a document type is read, so no entity is ever expanded.
//!
//! Sources: AppStream specification, section 2.2 and "Firmware"; LVFS, "Uploading firmware".

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

/// Largest file, in bytes.
pub(super) const METAINFO_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting of elements.
const DEPTH_MAX: usize = 32;
/// Most entries of a kind: releases, GUIDs, requirements.
const ENTRIES_MAX: usize = 64;
/// Most characters that are kept of one text, and of the notes of a release.
const TEXT_MAX: usize = 1000;

/// What a maker says of firmware. Texts are one line each, without control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metainfo {
    /// Name of the component, such as `com.acme.S1.firmware`.
    pub id: String,
    /// Name of the product, as it is sold.
    pub name: String,
    /// Name of its maker.
    pub vendor: String,
    /// GUIDs of the devices that it is for.
    pub provides: Vec<String>,
    /// What it needs, each in words.
    pub requires: Vec<String>,
    /// Its releases, or the one that was chosen.
    pub releases: Vec<Release>,
}

/// A version of the firmware.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// The version.
    pub version: String,
    /// `low`, `medium`, `high` or `critical`; empty where it is not said.
    pub urgency: String,
    /// What is new.
    pub notes: String,
    /// What it mends, such as numbers of CVEs.
    pub issues: Vec<String>,
    /// Name of its file in the cabinet.
    pub(super) payload: Option<String>,
    /// Digests of that file, in hexadecimal.
    pub(super) digests: Vec<String>,
}

/// Why the metainfo cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetainfoError {
    /// Not XML, or not as AppStream has it.
    #[error("at byte {offset_bytes}: {why}")]
    Xml {
        /// Where.
        offset_bytes: u64,
        /// What.
        why: String,
    },
    /// A document type, in which entities could be defined.
    #[error("it has a document type, which no metainfo needs and an XML bomb has")]
    DocumentType,
    /// Elements in elements.
    #[error("its elements are nested more than {DEPTH_MAX} deep")]
    Depth,
    /// Not the root of metainfo.
    #[error("it is of <{0}>, expected <component>")]
    Root(String),
}

/// An element that is not closed yet.
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
}

impl Element {
    fn attribute(&self, name: &str) -> &str {
        let found = self.attributes.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value.as_str())
    }
}

impl Metainfo {
    /// Reads the metainfo in `xml`.
    ///
    /// # Errors
    /// [`MetainfoError`] for the first thing that is wrong.
    pub fn parse(xml: &str) -> Result<Self, MetainfoError> {
        let mut reader = Reader::from_str(xml);
        let mut open: Vec<Element> = Vec::new();
        let (mut metainfo, mut release) = (Self::default(), Release::default());
        loop {
            let offset_bytes = reader.buffer_position();
            let wrong = |why: String| MetainfoError::Xml { offset_bytes, why: one_line(&why) };
            match reader.read_event().map_err(|error| wrong(error.to_string()))? {
                Event::Start(start) => {
                    if open.len() == DEPTH_MAX {
                        return Err(MetainfoError::Depth);
                    }
                    open.push(element(&start).map_err(wrong)?);
                }
                Event::Empty(start) => {
                    metainfo.close(&open, &element(&start).map_err(wrong)?, &mut release);
                }
                Event::End(_) => {
                    let Some(element) = open.pop() else { continue };
                    if open.is_empty() && element.name != "component" {
                        return Err(MetainfoError::Root(one_line(&element.name)));
                    }
                    metainfo.close(&open, &element, &mut release);
                }
                Event::Text(text) => append(&mut open, &text),
                Event::CData(text) => append(&mut open, &text),
                Event::GeneralRef(reference) => {
                    let character = match reference.resolve_char_ref() {
                        Ok(Some(character)) => character.to_string(),
                        Ok(None) => predefined(&reference)
                            .ok_or_else(|| wrong(format!("unknown entity {:?}", &*reference)))?
                            .to_owned(),
                        Err(error) => return Err(wrong(error.to_string())),
                    };
                    append(&mut open, &character);
                }
                Event::DocType(_) => return Err(MetainfoError::DocumentType),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
                Event::Eof if open.is_empty() => return Ok(metainfo),
                Event::Eof => return Err(wrong("the end, expected more: it was cut".to_owned())),
            }
        }
    }

    /// Takes what an element says, at its end. Translations are left out.
    fn close(&mut self, parents: &[Element], element: &Element, release: &mut Release) {
        if !element.attribute("xml:lang").is_empty() {
            return;
        }
        let text = one_line(&element.text);
        let parents: Vec<&str> = parents.iter().map(|parent| parent.name.as_str()).collect();
        match (&parents[..], element.name.as_str()) {
            (["component"], "id") => self.id = text,
            (["component"], "name") => self.name = text,
            (["component"], "developer_name") | (["component", "developer"], "name") => {
                self.vendor = text;
            }
            (["component", "provides"], "firmware") => push(&mut self.provides, text),
            (["component", "requires"], kind) => {
                push(&mut self.requires, requirement(kind, element, &text));
            }
            (["component", "releases"], "release") => {
                release.version = one_line(element.attribute("version"));
                release.urgency = one_line(element.attribute("urgency"));
                let release = std::mem::take(release);
                if self.releases.len() < ENTRIES_MAX {
                    self.releases.push(release);
                }
            }
            (["component", "releases", "release", inner @ ..], name) => {
                release.close(inner, name, element, text);
            }
            _ => {}
        }
    }

    /// Returns what is worth to be shown, line by line.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for release in self.releases.iter().take(1) {
            let urgency = match release.urgency.as_str() {
                "" => "not stated",
                urgency => urgency,
            };
            let Self { id, name, vendor, .. } = self;
            let version = &release.version;
            lines.push(format!("{name} of {vendor} ({id}), version {version}, urgency {urgency}"));
            for (what, texts) in [("mends", &release.issues), ("is for", &self.provides)] {
                if !texts.is_empty() {
                    lines.push(format!("{what} {}", texts.join(", ")));
                }
            }
            if !self.requires.is_empty() {
                let all = self.requires.join(", ");
                lines.push(format!("requires {all}: fwupd would check it, firmcast does not"));
            }
            if !release.notes.is_empty() {
                lines.push(format!("release notes: {}", release.notes));
            }
        }
        lines
    }
}

impl Release {
    fn close(&mut self, parents: &[&str], name: &str, element: &Element, text: String) {
        match (parents, name) {
            (["description", ..], "p" | "li") => {
                let sign = if self.notes.is_empty() { "" } else { " / " };
                self.notes = shortened(&format!("{}{sign}{text}", self.notes));
            }
            (["issues"], "issue") => push(&mut self.issues, text),
            ([], "checksum") if matches!(element.attribute("target"), "content" | "") => {
                let file = element.attribute("filename");
                if !file.is_empty() {
                    self.payload = Some(file.to_owned());
                }
                push(&mut self.digests, text);
            }
            (["artifacts", "artifact"], "filename") => self.payload = Some(text),
            (["artifacts", "artifact"], "checksum") => push(&mut self.digests, text),
            _ => {}
        }
    }
}

fn element(start: &BytesStart<'_>) -> Result<Element, String> {
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let value = attribute.normalized_value(XmlVersion::default());
        let value = value.map_err(|error| error.to_string())?;
        attributes.push((attribute.key.as_ref().to_owned(), value.into_owned()));
    }
    Ok(Element { name: start.name().as_ref().to_owned(), attributes, text: String::new() })
}

fn append(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

/// The entities that every XML has.
fn predefined(name: &str) -> Option<&'static str> {
    Some(match name {
        "amp" => "&",
        "lt" => "<",
        "gt" => ">",
        "quot" => "\"",
        "apos" => "'",
        _ => return None,
    })
}

/// Says in words what an element below `requires` asks for.
fn requirement(kind: &str, element: &Element, of: &str) -> String {
    let compare = match element.attribute("compare") {
        "eq" => "=",
        "ne" => "other than",
        "lt" => "<",
        "le" => "<=",
        "gt" => ">",
        "ge" => ">=",
        other => other,
    };
    one_line(&format!("{kind} {of} {compare} {}", element.attribute("version")))
}

fn push(list: &mut Vec<String>, text: String) {
    if list.len() < ENTRIES_MAX && !text.is_empty() {
        list.push(text);
    }
}

/// Returns the text as one line of a length that can be shown, without what would move the cursor
/// or turn the direction of reading.
fn one_line(text: &str) -> String {
    let printable = |character: char| match character {
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => ' ',
        character if character.is_control() => ' ',
        character => character,
    };
    let text: String = text.chars().map(printable).collect();
    shortened(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
