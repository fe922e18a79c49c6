//! Text in firmware, as something that can be shown.

/// Maximum length of a text, in characters; the rest is left out.
pub const TEXT_CHARS_MAX: usize = 256;

/// Returns UTF-16 up to its end or the first zero, if there is any.
pub(super) fn utf16(bytes: &[u8]) -> Option<String> {
    let units = bytes.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit));
    let units = units.take_while(|unit| *unit != 0);
    let characters = char::decode_utf16(units);
    shown(characters.map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER)))
}

/// Returns the text up to the first byte that is no printable ASCII character, if there is any.
pub(super) fn ascii(bytes: &[u8]) -> Option<String> {
    let text = bytes.iter().take_while(|byte| matches!(byte, b' '..=b'~'));
    shown(text.map(|byte| char::from(*byte)))
}

/// Returns text that can be shown, if there is any in it.
pub(super) fn visible(text: &str) -> Option<String> {
    shown(text.chars())
}

fn shown(characters: impl Iterator<Item = char>) -> Option<String> {
    let visible = |character: char| match is_invisible(character) {
        true => char::REPLACEMENT_CHARACTER,
        false => character,
    };
    let text: String = characters.take(TEXT_CHARS_MAX).map(visible).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Control characters, and what makes text look like another one.
fn is_invisible(character: char) -> bool {
    let is_format = matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}'
            | '\u{fffe}'..='\u{ffff}'
    );
    character.is_control() || is_format
}

/// Returns a date of packed decimals, if it is one: `20180322` as `2018-03-22`.
pub(super) fn date(year_month_day: u32) -> Option<String> {
    let text = format!("{year_month_day:08x}");
    let is_date = text.bytes().all(|digit| digit.is_ascii_digit())
        && ("01"..="12").contains(&&text[4..6])
        && ("01"..="31").contains(&&text[6..]);
    is_date.then(|| format!("{}-{}-{}", &text[..4], &text[4..6], &text[6..]))
}
