//! Programs for UEFI: PE32 and TE images, and what they depend on.
//!
//! Neither has a checksum that makers set, so what does not fit is a reason to doubt.
//!
//! | PE offset | bytes | field (little-endian) |
//! | --- | --- | --- |
//! | 0 | 2 | `MZ` |
//! | 3Ch | 4 | where `PE`, 0, 0 stands; counted from there: |
//! | +6 | 2 | number of sections |
//! | +20 | 2 | length of the optional header |
//! | +24 | | optional header, then the sections |
//!
//! | TE offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 2 | `VZ` |
//! | 4 | 1 | number of sections |
//! | 6 | 2 | how much longer the PE header was that this one stands for |
//! | 40 | | the sections |
//!
//! Sections have 40 bytes: at 16 length and at 20 place of their contents, at 36 what they are.
//! Sources: PE format of Microsoft; PI specification, volume 1, section 15.

use std::ops::Range;

use crate::image::layout::{u16_at, u32_at};

const SECTION_BYTES: usize = 40;
const IS_CODE: u32 = 0x20;
const TE_HEADER_BYTES: usize = 40;

/// Returns where the code of a PE32 image lies in it.
pub(super) fn pe_code(image: &[u8]) -> Vec<Range<usize>> {
    code(image, pe_sections(image), 0)
}

/// Returns where the code of a TE image lies in it.
pub(super) fn te_code(image: &[u8]) -> Vec<Range<usize>> {
    code(image, te_sections(image), te_stripped_bytes(image))
}

/// Returns what does not fit about a PE32 image.
pub(super) fn pe_doubt(image: &[u8]) -> Option<&'static str> {
    doubt(image, pe_sections(image), 0)
}

/// Returns what does not fit about a TE image.
pub(super) fn te_doubt(image: &[u8]) -> Option<&'static str> {
    doubt(image, te_sections(image), te_stripped_bytes(image))
}

/// Returns what does not fit about dependencies: instructions, with GUIDs behind some, up to END.
pub(super) fn dependencies_doubt(mut instructions: &[u8]) -> Option<&'static str> {
    const DOUBT: &str = "section: dependencies without an end, expected known instructions and END";
    const GUID_BYTES: usize = 16;
    loop {
        let rest = match instructions {
            // BEFORE, AFTER, PUSH.
            [0x00..=0x02, rest @ ..] => rest.get(GUID_BYTES..),
            // AND, OR, NOT, TRUE, FALSE; SOR.
            [0x03..=0x07 | 0x09, rest @ ..] => Some(rest),
            [0x08, ..] => return None,
            _ => None,
        };
        match rest {
            Some(rest) => instructions = rest,
            None => return Some(DOUBT),
        }
    }
}

/// The header of a section.
#[derive(Clone, Copy, Debug)]
struct Header {
    offset: u32,
    length: u32,
    is_code: bool,
}

fn pe_sections(image: &[u8]) -> Option<Vec<Header>> {
    let start = u32_at(image, 0x3c)? as usize;
    let header = image.get(start..).filter(|header| header.starts_with(b"PE\0\0"))?;
    let first = 24 + usize::from(u16_at(header, 20)?);
    sections(header, first, usize::from(u16_at(header, 6)?))
}

fn te_sections(image: &[u8]) -> Option<Vec<Header>> {
    sections(image, TE_HEADER_BYTES, usize::from(*image.get(4)?))
}

fn te_stripped_bytes(image: &[u8]) -> usize {
    usize::from(u16_at(image, 6).unwrap_or(0)).saturating_sub(TE_HEADER_BYTES)
}

fn sections(header: &[u8], first: usize, count: usize) -> Option<Vec<Header>> {
    let headers = header.get(first..)?.get(..count * SECTION_BYTES)?.chunks_exact(SECTION_BYTES);
    let parse = |header: &[u8]| {
        let is_code = u32_at(header, 36)? & IS_CODE != 0;
        Some(Header { offset: u32_at(header, 20)?, length: u32_at(header, 16)?, is_code })
    };
    headers.map(parse).collect()
}

/// Returns where the contents of a section lie in the image; the places were counted when its
/// header was longer by `stripped_bytes`.
fn range(section: Header, stripped_bytes: usize) -> Option<Range<usize>> {
    let start = (section.offset as usize).checked_sub(stripped_bytes)?;
    Some(start..start.checked_add(section.length as usize)?)
}

fn code(image: &[u8], sections: Option<Vec<Header>>, stripped_bytes: usize) -> Vec<Range<usize>> {
    let sections = sections.unwrap_or_default();
    let code = sections.into_iter().filter(|section| section.is_code);
    let ranges = code.filter_map(|section| range(section, stripped_bytes));
    ranges.map(|range| range.start.min(image.len())..range.end.min(image.len())).collect()
}

fn doubt(
    image: &[u8],
    sections: Option<Vec<Header>>,
    stripped_bytes: usize,
) -> Option<&'static str> {
    let Some(sections) = sections else {
        return Some("program without the headers of its sections");
    };
    let is_inside = |section: &Header| {
        section.length == 0
            || range(*section, stripped_bytes).is_some_and(|range| range.end <= image.len())
    };
    match sections.iter().all(is_inside) {
        true => None,
        false => Some("program whose sections end outside, expected them inside"),
    }
}
