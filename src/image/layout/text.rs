//! Layout files as flashrom reads them: one region a line, `start:end name`, hexadecimal, end
//! included.

use super::{Layout, LayoutError, LayoutRegion, RegionKind};

impl Layout {
    /// Parses a flashrom layout file for a chip of `size_bytes`. Empty lines and lines that begin
    /// with `#` are skipped; the names tell the kinds ([`RegionKind::of_name`]).
    ///
    /// # Errors
    /// [`LayoutError::Line`] for a line of another form, and whatever [`Layout::new`] refuses.
    pub fn parse_text(text: &str, size_bytes: u64) -> Result<Self, LayoutError> {
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        let regions = lines
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .map(|(number, line)| {
                parse_line(line)
                    .ok_or_else(|| LayoutError::Line { line: number, text: line.to_owned() })
            })
            .collect::<Result<Vec<_>, _>>()?;
        Self::new(regions, size_bytes)
    }
}

fn parse_line(line: &str) -> Option<LayoutRegion> {
    let (range, name) = line.split_once(char::is_whitespace)?;
    let (start, end) = range.split_once(':')?;
    let (start, end) = (parse_hex(start)?, parse_hex(end)?);
    let name = name.trim();
    Some(LayoutRegion {
        kind: RegionKind::of_name(name),
        name: name.to_owned(),
        offset_bytes: start,
        length_bytes: end.checked_add(1)?.checked_sub(start)?,
    })
}

fn parse_hex(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let only_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if only_digits { u64::from_str_radix(digits, 16).ok() } else { None }
}
